#include <algorithm>
#include <atomic>
#include <limits>

#include "cuda/epilogues.cuh"
#include "cuda/instance.h"
#include "cuda/predicates.h"
#include "cuda/shared_memory.h"
#include "cuda/simt.cuh"

namespace fusedops::simt {
namespace {

int64_t tiles(int64_t extent, int tile) { return (extent + tile - 1) / tile; }

template <class Config>
std::vector<std::string> why_not(const Instance& instance, const Problem& problem) {
  std::vector<std::string> reasons = common_reasons(instance, problem);
  constexpr int64_t kMaxTiles = std::numeric_limits<int>::max();
  const int64_t tiles_m = tiles(problem.m, Config::kTileM);
  const int64_t tiles_n = tiles(problem.n, Config::kTileN);
  if (tiles_n > 0 && tiles_m > kMaxTiles / tiles_n) {
    reasons.push_back("the output has " + std::to_string(tiles_m) + " x " +
                      std::to_string(tiles_n) + " tiles; one grid holds at most " +
                      std::to_string(kMaxTiles));
  }
  return reasons;
}

template <class Config, void (*kKernel)(Params<LaunchedSigmoidResidual>)>
cudaError_t launch(const GemmArgs& args) {
  constexpr int kShared = sizeof(SharedStorage<Config>);
  static_assert(kShared <= 99 * 1024, "what one block may hold on sm_86 and sm_89");
  static std::atomic<uint64_t> prepared{0};
  if (const cudaError_t error =
          allow_shared_memory(prepared, reinterpret_cast<const void*>(kKernel), kShared);
      error != cudaSuccess) {
    return error;
  }
  constexpr int kGroupM = 8;
  const Problem& problem = args.problem;
  Params<LaunchedSigmoidResidual> params{};
  params.x = {static_cast<const float*>(args.x), problem.m, problem.x_stride_m, problem.x_stride_k};
  params.weight = {static_cast<const float*>(args.weight), problem.n, problem.w_stride_n,
                   problem.w_stride_k};
  params.k = problem.k;
  params.bias = {args.bias, bias_kind(args.bias, problem)};
  params.epilogue = LaunchedSigmoidResidual{static_cast<float>(args.scale), args.scale_in_memory};
  params.out = static_cast<float*>(args.out);
  params.z = static_cast<float*>(args.z);
  params.tiles_m = static_cast<int>(tiles(problem.m, Config::kTileM));
  params.tiles_n = static_cast<int>(tiles(problem.n, Config::kTileN));
  params.group_m = std::min(params.tiles_m, kGroupM);
  kKernel<<<params.tiles_m * params.tiles_n, Config::kThreads, kShared, args.stream>>>(params);
  return cudaGetLastError();
}

template <class Config, void (*kKernel)(Params<LaunchedSigmoidResidual>)>
Instance instance(const char* label, const char* entry_symbol) {
  return {"cuda.simt",
          label,
          DType::float32,
          /*min_capability=*/80,
          /*max_capability=*/kNoMaximum,
          Config::kTileM,
          Config::kTileN,
          kTileK,
          Config::kStages,
          Config::kThreads,
          static_cast<int>(sizeof(SharedStorage<Config>)),
          Accumulation{0x1p-24, 0},
          "fma_k1",
          &why_not<Config>,
          &launch<Config, kKernel>,
          reinterpret_cast<const void*>(kKernel),
          entry_symbol,
          /*cluster_m=*/1,
          /*cluster_n=*/1,
          /*for_gradients=*/true};
}

}  // namespace
}  // namespace fusedops::simt

// One kernel a tile, under a C name: profilers show it and ptxas reports its resources under it.
#define FUSEDOPS_SIMT_CONFIG(...) fusedops::simt::Config<__VA_ARGS__>

#define FUSEDOPS_SIMT_KERNEL(NAME, ...)                                                         \
  extern "C" __global__ void __launch_bounds__(FUSEDOPS_SIMT_CONFIG(__VA_ARGS__)::kThreads,     \
                                               FUSEDOPS_SIMT_CONFIG(__VA_ARGS__)::kBlocksPerSM) \
      gemm_sig_res_simt_##NAME(                                                                 \
          const __grid_constant__ fusedops::simt::Params<fusedops::LaunchedSigmoidResidual>     \
              params) {                                                                         \
    fusedops::simt::simt_gemm<FUSEDOPS_SIMT_CONFIG(__VA_ARGS__)>(params);                       \
  }

#define FUSEDOPS_SIMT_INSTANCE(NAME, ...)                                                 \
  fusedops::simt::instance<FUSEDOPS_SIMT_CONFIG(__VA_ARGS__), &gemm_sig_res_simt_##NAME>( \
      #NAME, "gemm_sig_res_simt_" #NAME),

// APPLY(name, warps_m, warps_n, groups of rows a thread, stages, blocks that an SM should hold)
#define FUSEDOPS_SIMT_TILES(APPLY)        \
  APPLY(fp32_128x128x8_s4, 2, 2, 4, 4, 2) \
  APPLY(fp32_64x128x8_s4, 2, 2, 2, 4, 4)

FUSEDOPS_SIMT_TILES(FUSEDOPS_SIMT_KERNEL)

namespace fusedops {

std::vector<Instance> simt_instances() { return {FUSEDOPS_SIMT_TILES(FUSEDOPS_SIMT_INSTANCE)}; }

}  // namespace fusedops
