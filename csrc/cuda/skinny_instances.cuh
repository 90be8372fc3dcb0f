#pragma once

#include <atomic>
#include <limits>
#include <type_traits>

#include "cuda/instance.h"
#include "cuda/predicates.h"
#include "cuda/shared_memory.h"
#include "cuda/skinny_multistage.cuh"

namespace fusedops::skinny {

inline constexpr int64_t kMaxGridX = std::numeric_limits<int>::max();
inline constexpr int64_t kMaxGridY = 65535;

inline int64_t ceil_div(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

template <class Config>
std::vector<std::string> why_not(const Instance& instance, const Problem& problem) {
  std::vector<std::string> reasons = tensor_core_reasons(instance, problem);
  if (problem.k % Config::kVector != 0) {
    reasons.push_back("it copies rows in whole 16-byte vectors: K = " + std::to_string(problem.k) +
                      " is not a multiple of " + std::to_string(Config::kVector));
  }
  if (ceil_div(problem.m, Config::kRows) > kMaxGridY) {
    reasons.push_back("it is for few rows: M = " + std::to_string(problem.m) + " is more than " +
                      std::to_string(kMaxGridY * Config::kRows));
  }
  if (ceil_div(problem.n, Config::kColumns) > kMaxGridX) {
    reasons.push_back("N = " + std::to_string(problem.n) + " has more than " +
                      std::to_string(kMaxGridX) + " strips of columns");
  }
  return reasons;
}

template <class Config, class Epilogue, auto kKernel>
cudaError_t launch(const GemmArgs& args) {
  using Element = typename Config::Element;
  static std::atomic<uint64_t> prepared{0};
  static OverlapSupport overlaps;
  const void* const entry = reinterpret_cast<const void*>(kKernel);
  if (const cudaError_t error = allow_shared_memory(prepared, entry, Config::kSharedMemory);
      error != cudaSuccess) {
    return error;
  }
  const Problem& problem = args.problem;
  const Params<Element, Epilogue> params{static_cast<const Element*>(args.x),
                                         static_cast<const Element*>(args.weight),
                                         {args.bias, bias_kind(args.bias, problem)},
                                         static_cast<Element*>(args.out),
                                         problem.m,
                                         problem.n,
                                         problem.k,
                                         problem.x_stride_m,
                                         problem.w_stride_n,
                                         Epilogue{static_cast<float>(args.scale)}};
  cudaLaunchAttribute overlap = overlap_with_predecessor();
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(ceil_div(problem.n, Config::kColumns)),
                        static_cast<unsigned>(ceil_div(problem.m, Config::kRows)));
  config.blockDim = Config::kThreads;
  config.dynamicSmemBytes = Config::kSharedMemory;
  config.stream = args.stream;
  config.attrs = &overlap;
  config.numAttrs = overlaps(entry) ? 1 : 0;
  return cudaLaunchKernelEx(&config, kKernel, params);
}

// Each of `warps` warps sums its 32 of every stage's K; then the warps are added up.
constexpr const char* summation(int warps) {
  switch (warps) {
    case 2:
      return "mma_k16_2x32";
    case 4:
      return "mma_k16_4x32";
    default:
      return "mma_k16_8x32";
  }
}

template <class Config, class Epilogue, auto kKernel>
Instance instance(const char* label, const char* entry_symbol) {
  constexpr bool kHalf = std::is_same_v<typename Config::Element, __half>;
  return {"cuda.skinny",
          label,
          kHalf ? DType::float16 : DType::bfloat16,
          /*min_capability=*/80,
          /*max_capability=*/kNoMaximum,
          Config::kRows,
          Config::kColumns,
          Config::kTileK,
          Config::kStages,
          Config::kThreads,
          Config::kSharedMemory,
          kTensorCoreChain,
          summation(Config::kWarpsK),
          &why_not<Config>,
          &launch<Config, Epilogue, kKernel>,
          reinterpret_cast<const void*>(kKernel),
          entry_symbol};
}

}  // namespace fusedops::skinny

#define FUSEDOPS_SKINNY_ENTRY(PREFIX, ROWS, COLUMNS, K, STAGES) \
  gemm_sig_res_skinny_##PREFIX##_##ROWS##x##COLUMNS##x##K##_s##STAGES

#define FUSEDOPS_SKINNY_CONFIG(ELEMENT, ROWS, COLUMNS, K, STAGES, WARPS_N, WARPS_K) \
  fusedops::skinny::Config<ELEMENT, COLUMNS / WARPS_N, WARPS_N, WARPS_K, ROWS, K / WARPS_K, STAGES>

#define FUSEDOPS_SKINNY_PARAMS(ELEMENT) fusedops::skinny::Params<ELEMENT, fusedops::SigmoidResidual>

// One kernel a configuration, under a C name: profilers show it and ptxas reports under it.
#define FUSEDOPS_SKINNY_KERNEL(PREFIX, ELEMENT, ROWS, COLUMNS, K, STAGES, WARPS_N, WARPS_K)       \
  extern "C" __global__ void __launch_bounds__(32 * WARPS_N * WARPS_K)                            \
      FUSEDOPS_SKINNY_ENTRY(PREFIX, ROWS, COLUMNS, K, STAGES)(                                    \
          const __grid_constant__ FUSEDOPS_SKINNY_PARAMS(ELEMENT) params) {                       \
    fusedops::skinny::skinny_multistage<FUSEDOPS_SKINNY_CONFIG(ELEMENT, ROWS, COLUMNS, K, STAGES, \
                                                               WARPS_N, WARPS_K)>(params);        \
  }

#define FUSEDOPS_SKINNY_INSTANCE(PREFIX, ELEMENT, ROWS, COLUMNS, K, STAGES, WARPS_N, WARPS_K) \
  fusedops::skinny::instance<                                                                 \
      FUSEDOPS_SKINNY_CONFIG(ELEMENT, ROWS, COLUMNS, K, STAGES, WARPS_N, WARPS_K),            \
      fusedops::SigmoidResidual, &FUSEDOPS_SKINNY_ENTRY(PREFIX, ROWS, COLUMNS, K, STAGES)>(   \
      #PREFIX "_" #ROWS "x" #COLUMNS "x" #K "_s" #STAGES,                                     \
      FUSEDOPS_SKINNY_STRING(FUSEDOPS_SKINNY_ENTRY(PREFIX, ROWS, COLUMNS, K, STAGES))),

#define FUSEDOPS_SKINNY_STRING(TEXT) FUSEDOPS_SKINNY_STRING_OF(TEXT)
#define FUSEDOPS_SKINNY_STRING_OF(TEXT) #TEXT

// APPLY(..., rows of x, columns, K of a stage, stages, warps along N, warps along K)
#define FUSEDOPS_SKINNY_TILES(APPLY, ...)  \
  APPLY(__VA_ARGS__, 8, 16, 256, 3, 1, 8)  \
  APPLY(__VA_ARGS__, 8, 32, 256, 4, 1, 8)  \
  APPLY(__VA_ARGS__, 8, 64, 128, 4, 2, 4)  \
  APPLY(__VA_ARGS__, 16, 32, 256, 3, 1, 8) \
  APPLY(__VA_ARGS__, 16, 64, 128, 4, 2, 4) \
  APPLY(__VA_ARGS__, 32, 64, 128, 3, 2, 4) \
  APPLY(__VA_ARGS__, 64, 64, 64, 4, 4, 2)
