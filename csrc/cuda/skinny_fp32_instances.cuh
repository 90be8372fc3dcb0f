#pragma once

#include <atomic>
#include <limits>

#include "cuda/epilogues.cuh"
#include "cuda/instance.h"
#include "cuda/predicates.h"
#include "cuda/shared_memory.h"
#include "cuda/skinny_fp32.cuh"

namespace fusedops::skinny_fp32 {

inline int64_t ceil_div(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

template <class Config, int kBlocks>
std::vector<std::string> why_not(const Instance& instance, const Problem& problem) {
  constexpr int64_t kMaxStrips = std::numeric_limits<int>::max() / kBlocks;
  std::vector<std::string> reasons = Config::kCopied == 1 ? rows_along_k_reasons(instance, problem)
                                                          : tensor_core_reasons(instance, problem);
  if (problem.k % Config::kCopied != 0) {
    reasons.push_back("it copies rows in whole 16-byte vectors: K = " + std::to_string(problem.k) +
                      " is not a multiple of " + std::to_string(Config::kCopied));
  }
  if (problem.m > Config::kRows) {
    reasons.push_back("it is for at most " + std::to_string(Config::kRows) + " rows of x, not " +
                      std::to_string(problem.m));
  }
  if (ceil_div(problem.n, Config::kColumns) > kMaxStrips) {
    reasons.push_back("N = " + std::to_string(problem.n) + " has more than " +
                      std::to_string(kMaxStrips) + " strips of columns");
  }
  return reasons;
}

using Kernel = void (*)(Params<LaunchedSigmoidResidual>);

template <class Config, int kBlocks, Kernel kKernel>
cudaError_t launch(const GemmArgs& args) {
  static std::atomic<uint64_t> prepared{0};
  static OverlapSupport overlaps;
  const void* const entry = reinterpret_cast<const void*>(kKernel);
  if (const cudaError_t error = allow_shared_memory(prepared, entry, Config::kSharedMemory);
      error != cudaSuccess) {
    return error;
  }
  const Problem& problem = args.problem;
  Params<LaunchedSigmoidResidual> params{};
  params.x = static_cast<const float*>(args.x);
  params.weight = static_cast<const float*>(args.weight);
  params.bias = {args.bias, bias_kind(args.bias, problem)};
  params.epilogue = LaunchedSigmoidResidual{static_cast<float>(args.scale), args.scale_in_memory};
  params.out = static_cast<float*>(args.out);
  params.z = static_cast<float*>(args.z);
  params.m = static_cast<int>(problem.m);
  params.n = problem.n;
  params.k = problem.k;
  params.x_stride = problem.x_stride_m;
  params.weight_stride = problem.w_stride_n;
  params.strips = static_cast<int>(ceil_div(problem.n, Config::kColumns));

  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config{};
  if (overlaps(entry)) attributes[config.numAttrs++] = overlap_with_predecessor();
  if (kBlocks > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs++].val.clusterDim = {kBlocks, 1, 1};
  }
  config.gridDim = static_cast<unsigned>(params.strips) * kBlocks;
  config.blockDim = Config::kThreads;
  config.dynamicSmemBytes = Config::kSharedMemory;
  config.stream = args.stream;
  config.attrs = attributes;
  return cudaLaunchKernelEx(&config, kKernel, params);
}

// The cards an instance is compiled for.
struct Anywhere {
  static constexpr int kLeast = 80, kMost = kNoMaximum;
  static constexpr int kSharedMemory = 99 * 1024;  // what a block may hold on sm_86 and sm_89
};

struct OnHopper {
  static constexpr int kLeast = 90, kMost = 90;
  static constexpr int kSharedMemory = 227 * 1024;
};

template <class Cards, class Config, int kBlocks, Kernel kKernel>
Instance instance(const char* label, const char* summation, const char* entry_symbol) {
  constexpr int kStatic = 128;  // with its alignment, what an Exchange has beside the ring
  static_assert(Config::kSharedMemory + kStatic <= Cards::kSharedMemory);
  return {"cuda.skinny_fp32",
          label,
          DType::float32,
          Cards::kLeast,
          Cards::kMost,
          Config::kRows,
          Config::kColumns,
          Config::kTileK,
          Config::kStages,
          Config::kThreads,
          Config::kSharedMemory,
          Accumulation{0x1p-24, 0},
          summation,
          &why_not<Config, kBlocks>,
          &launch<Config, kBlocks, kKernel>,
          reinterpret_cast<const void*>(kKernel),
          entry_symbol,
          /*cluster_m=*/1,
          /*cluster_n=*/1,
          /*for_gradients=*/true};
}

}  // namespace fusedops::skinny_fp32

// A configuration is
//   "" or "_any", floats that a copy brings: 1 where rows lie as they like,
//   rows of x, widest strip, K of a stage, stages, rows of a lane, warps along N, warps along K,
//   blocks that split K.

#define FUSEDOPS_SKINNY_FP32_CONFIG(COPIED, ROWS, COLUMNS, K, STAGES, LANE_ROWS, WARPS_N, WARPS_K) \
  ::fusedops::skinny_fp32::Config<ROWS, LANE_ROWS, COLUMNS / (2 * WARPS_N), WARPS_N, WARPS_K,      \
                                  K * ROWS / (64 * WARPS_K * LANE_ROWS), STAGES, COPIED>

#define FUSEDOPS_SKINNY_FP32_LABEL(SUFFIX, ROWS, COLUMNS, K, STAGES, WARPS_N, WARPS_K, BLOCKS) \
  ROWS##x##COLUMNS##x##K##_s##STAGES##_w##WARPS_N##x##WARPS_K##_c##BLOCKS##SUFFIX

#define FUSEDOPS_SKINNY_FP32_ENTRY(SUFFIX, ROWS, COLUMNS, K, STAGES, WARPS_N, WARPS_K, BLOCKS) \
  gemm_sig_res_skinny_fp32_##ROWS##x##COLUMNS##x##K##_s##STAGES##_w##WARPS_N##x##WARPS_K##_c##BLOCKS##SUFFIX

// One kernel a configuration, under a C name: profilers show it and ptxas reports under it.
#define FUSEDOPS_SKINNY_FP32_KERNEL(EXCHANGE, CARDS, SUFFIX, COPIED, ROWS, COLUMNS, K, STAGES,     \
                                    LANE_ROWS, WARPS_N, WARPS_K, BLOCKS)                           \
  extern "C" __global__ void __launch_bounds__(32 * WARPS_N * WARPS_K) FUSEDOPS_SKINNY_FP32_ENTRY( \
      SUFFIX, ROWS, COLUMNS, K, STAGES, WARPS_N, WARPS_K, BLOCKS)(                                 \
      const __grid_constant__::fusedops::skinny_fp32::Params<::fusedops::LaunchedSigmoidResidual>  \
          params) {                                                                                \
    ::fusedops::skinny_fp32::skinny_fp32<FUSEDOPS_SKINNY_FP32_CONFIG(COPIED, ROWS, COLUMNS, K,     \
                                                                     STAGES, LANE_ROWS, WARPS_N,   \
                                                                     WARPS_K),                     \
                                         EXCHANGE<BLOCKS>>(params);                                \
  }

#define FUSEDOPS_SKINNY_FP32_STRING(TEXT) FUSEDOPS_SKINNY_FP32_STRING_OF(TEXT)
#define FUSEDOPS_SKINNY_FP32_STRING_OF(TEXT) #TEXT

// A strip's width decides where it begins in K, hence the order of its sums.
#define FUSEDOPS_SKINNY_FP32_INSTANCE(EXCHANGE, CARDS, SUFFIX, COPIED, ROWS, COLUMNS, K, STAGES,   \
                                      LANE_ROWS, WARPS_N, WARPS_K, BLOCKS)                         \
  ::fusedops::skinny_fp32::instance<                                                               \
      CARDS,                                                                                       \
      FUSEDOPS_SKINNY_FP32_CONFIG(COPIED, ROWS, COLUMNS, K, STAGES, LANE_ROWS, WARPS_N, WARPS_K),  \
      BLOCKS,                                                                                      \
      &FUSEDOPS_SKINNY_FP32_ENTRY(SUFFIX, ROWS, COLUMNS, K, STAGES, WARPS_N, WARPS_K, BLOCKS)>(    \
      FUSEDOPS_SKINNY_FP32_STRING(                                                                 \
          FUSEDOPS_SKINNY_FP32_LABEL(SUFFIX, ROWS, COLUMNS, K, STAGES, WARPS_N, WARPS_K, BLOCKS)), \
      "fma_strips" #COLUMNS "x" #K "_lanes" #ROWS "_" #LANE_ROWS "_warps" #WARPS_K                 \
      "_split" #BLOCKS,                                                                            \
      FUSEDOPS_SKINNY_FP32_STRING(FUSEDOPS_SKINNY_FP32_ENTRY(SUFFIX, ROWS, COLUMNS, K, STAGES,     \
                                                             WARPS_N, WARPS_K, BLOCKS))),
