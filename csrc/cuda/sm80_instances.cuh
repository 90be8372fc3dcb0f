#pragma once

#include <atomic>
#include <limits>
#include <type_traits>

#include "cuda/epilogues.cuh"
#include "cuda/instance.h"
#include "cuda/predicates.h"
#include "cuda/shared_memory.h"
#include "cuda/sm80_multistage.cuh"

namespace fusedops::sm80 {

inline constexpr int64_t kMaxTiles = std::numeric_limits<int>::max();

inline int64_t ceil_div(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

// What a kernel declares about its sums.
template <class Sums>
struct Declared;

template <>
struct Declared<Float32Sums> {
  static constexpr const char* kKernel = "cuda.sm80_multistage";
  static constexpr Accumulation kAccumulation = kTensorCoreChain;
  static constexpr const char* kSummation = "mma_k16";
  static void add_reasons(const Problem&, std::vector<std::string>&) {}
};

template <>
struct Declared<PromotedFloat16Sums> {
  static constexpr const char* kKernel = "cuda.sm80_fp16_accumulation";
  static constexpr Accumulation kAccumulation = kPromotedFloat16Chain;
  static constexpr const char* kSummation = "mma_k16_fp16_promoted_k64";
  static void add_reasons(const Problem& problem, std::vector<std::string>& reasons) {
    if (!problem.allow_fp16_accumulation) {
      reasons.push_back(
          "it adds in float16: torch.backends.cuda.matmul.allow_fp16_accumulation must be set");
    }
  }
};

template <class Config>
std::vector<std::string> why_not(const Instance& instance, const Problem& problem) {
  std::vector<std::string> reasons = tensor_core_reasons(instance, problem);
  Declared<typename Config::Sums>::add_reasons(problem, reasons);
  const int64_t tiles_m = ceil_div(problem.m, Config::kTileM);
  const int64_t tiles_n = ceil_div(problem.n, Config::kTileN);
  if (tiles_n > 0 && tiles_m > kMaxTiles / tiles_n) {
    reasons.push_back("the output has " + std::to_string(tiles_m) + " x " +
                      std::to_string(tiles_n) + " tiles; one grid holds at most " +
                      std::to_string(kMaxTiles));
  }
  if (ceil_div(problem.k, Config::kTileK) > kMaxTiles) {
    reasons.push_back("K = " + std::to_string(problem.k) + " has more than " +
                      std::to_string(kMaxTiles) + " tiles");
  }
  return reasons;
}

template <class Config, class Epilogue, void (*kKernel)(Params<Epilogue>)>
cudaError_t launch(const GemmArgs& args) {
  static std::atomic<uint64_t> prepared{0};
  if (const cudaError_t error = allow_shared_memory(
          prepared, reinterpret_cast<const void*>(kKernel), Config::kSharedMemory);
      error != cudaSuccess) {
    return error;
  }
  constexpr int kGroupM = 8;
  const Problem& problem = args.problem;
  Params<Epilogue> params{};
  params.x = args.x;
  params.weight = args.weight;
  params.bias = args.bias;
  params.out = args.out;
  params.z = args.z;
  params.m = problem.m;
  params.n = problem.n;
  params.k = problem.k;
  params.x_stride = problem.x_stride_m;
  params.weight_stride = problem.w_stride_n;
  params.tiles_m = int(ceil_div(problem.m, Config::kTileM));
  params.tiles_n = int(ceil_div(problem.n, Config::kTileN));
  params.group_m = params.tiles_m < kGroupM ? params.tiles_m : kGroupM;
  params.bias_kind = bias_kind(args.bias, problem);
  const auto results = reinterpret_cast<uintptr_t>(args.out) | reinterpret_cast<uintptr_t>(args.z);
  params.vector_stores = problem.n % kVectorElements == 0 && results % kVectorBytes == 0;
  params.epilogue = Epilogue{static_cast<float>(args.scale), args.scale_in_memory};
  kKernel<<<params.tiles_m * params.tiles_n, Config::kThreads, Config::kSharedMemory,
            args.stream>>>(params);
  return cudaGetLastError();
}

template <class Config, class Epilogue, void (*kKernel)(Params<Epilogue>)>
Instance instance(const char* label, const char* entry_symbol) {
  using About = Declared<typename Config::Sums>;
  constexpr bool kHalf = std::is_same_v<typename Config::Element, __half>;
  return Instance{About::kKernel,
                  label,
                  kHalf ? DType::float16 : DType::bfloat16,
                  /*min_capability=*/80,
                  /*max_capability=*/kNoMaximum,
                  Config::kTileM,
                  Config::kTileN,
                  Config::kTileK,
                  Config::kStages,
                  Config::kThreads,
                  Config::kSharedMemory,
                  About::kAccumulation,
                  About::kSummation,
                  &why_not<Config>,
                  &launch<Config, Epilogue, kKernel>,
                  reinterpret_cast<const void*>(kKernel),
                  entry_symbol,
                  /*cluster_m=*/1,
                  /*cluster_n=*/1,
                  /*for_gradients=*/true};
}

}  // namespace fusedops::sm80

// One kernel per tile, under a C name: profilers show it and ptxas reports its resources under it.
#define FUSEDOPS_SM80_CONFIG(ELEMENT, SUMS, M, N, K, STAGES, WARPS_M, WARPS_N) \
  fusedops::sm80::TileConfig<ELEMENT, fusedops::sm80::SUMS, M, N, K, STAGES, WARPS_M, WARPS_N>

#define FUSEDOPS_SM80_ENTRY(PREFIX, M, N, K, STAGES, WARPS_M, WARPS_N) \
  gemm_sig_res_sm80_##PREFIX##_##M##x##N##x##K##_s##STAGES##_w##WARPS_M##x##WARPS_N

#define FUSEDOPS_SM80_KERNEL(PREFIX, ELEMENT, SUMS, M, N, K, STAGES, WARPS_M, WARPS_N)            \
  extern "C" __global__ void __launch_bounds__(32 * WARPS_M * WARPS_N, 1) FUSEDOPS_SM80_ENTRY(    \
      PREFIX, M, N, K, STAGES, WARPS_M, WARPS_N)(                                                 \
      const __grid_constant__ fusedops::sm80::Params<fusedops::LaunchedSigmoidResidual> params) { \
    fusedops::sm80::multistage<FUSEDOPS_SM80_CONFIG(ELEMENT, SUMS, M, N, K, STAGES, WARPS_M,      \
                                                    WARPS_N)>(params);                            \
  }

#define FUSEDOPS_SM80_INSTANCE(PREFIX, ELEMENT, SUMS, M, N, K, STAGES, WARPS_M, WARPS_N)           \
  fusedops::sm80::instance<FUSEDOPS_SM80_CONFIG(ELEMENT, SUMS, M, N, K, STAGES, WARPS_M, WARPS_N), \
                           fusedops::LaunchedSigmoidResidual,                                      \
                           &FUSEDOPS_SM80_ENTRY(PREFIX, M, N, K, STAGES, WARPS_M, WARPS_N)>(       \
      #PREFIX "_" #M "x" #N "x" #K "_s" #STAGES "_w" #WARPS_M "x" #WARPS_N,                        \
      FUSEDOPS_STRING(FUSEDOPS_SM80_ENTRY(PREFIX, M, N, K, STAGES, WARPS_M, WARPS_N))),

#define FUSEDOPS_STRING(TEXT) FUSEDOPS_STRING_OF(TEXT)
#define FUSEDOPS_STRING_OF(TEXT) #TEXT

// APPLY(..., tile_m, tile_n, tile_k, stages, warps_m, warps_n)
#define FUSEDOPS_SM80_TILES(APPLY, ...)     \
  APPLY(__VA_ARGS__, 128, 256, 32, 4, 2, 4) \
  APPLY(__VA_ARGS__, 256, 128, 32, 4, 4, 2) \
  APPLY(__VA_ARGS__, 128, 128, 64, 3, 2, 2) \
  APPLY(__VA_ARGS__, 128, 128, 64, 3, 2, 4) \
  APPLY(__VA_ARGS__, 128, 128, 32, 3, 2, 2) \
  APPLY(__VA_ARGS__, 128, 64, 64, 4, 4, 2)  \
  APPLY(__VA_ARGS__, 64, 128, 64, 4, 2, 4)  \
  APPLY(__VA_ARGS__, 64, 64, 64, 3, 2, 2)   \
  APPLY(__VA_ARGS__, 64, 64, 64, 6, 2, 2)   \
  APPLY(__VA_ARGS__, 32, 64, 64, 6, 1, 4)

// Two sums a result take more registers: a warp's tile is at most 64 x 32.
#define FUSEDOPS_SM80_FP16_ACCUMULATION_TILES(APPLY, ...) \
  APPLY(__VA_ARGS__, 128, 128, 64, 3, 2, 4)               \
  APPLY(__VA_ARGS__, 128, 64, 64, 3, 2, 2)                \
  APPLY(__VA_ARGS__, 64, 64, 64, 3, 2, 2)                 \
  APPLY(__VA_ARGS__, 64, 64, 64, 6, 2, 2)
