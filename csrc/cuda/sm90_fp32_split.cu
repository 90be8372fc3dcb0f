#include <algorithm>
#include <atomic>

#include "cuda/epilogues.cuh"
#include "cuda/instance.h"
#include "cuda/shared_memory.h"
#include "cuda/sm90_fp32_split.cuh"
#include "cuda/sm90_predicate.h"
#include "cuda/sm90_tensor_map.h"

namespace fusedops::sm90_fp32 {
namespace {

int tiles(int64_t extent, int tile) { return static_cast<int>((extent + tile - 1) / tile); }

// A matrix of one row has no stride to follow, but the tensor map wants a legal one.
MatrixView operand(const void* data, int64_t rows, int64_t k, int64_t row_stride, int box_rows) {
  constexpr int64_t kStrideUnit = 4;
  const int64_t dense = (k + kStrideUnit - 1) / kStrideUnit * kStrideUnit;
  return {data, DType::float32, rows, k, rows == 1 ? dense : row_stride, box_rows, kBoxColumns};
}

template <class Scheme, int kSplitK, auto kKernel>
cudaError_t launch(const GemmArgs& args) {
  constexpr int kShared = sizeof(SharedStorage<Scheme>);
  static_assert(kShared <= 227 * 1024, "what sm_90 gives one block");
  static std::atomic<uint64_t> prepared{0};
  if (const cudaError_t error =
          allow_shared_memory(prepared, reinterpret_cast<const void*>(kKernel), kShared);
      error != cudaSuccess) {
    return error;
  }
  const Problem& problem = args.problem;
  CUtensorMap x_map{}, weight_map{};
  if (!encode_tensor_map(operand(args.x, problem.m, problem.k, problem.x_stride_m, kRows), x_map) ||
      !encode_tensor_map(operand(args.weight, problem.n, problem.k, problem.w_stride_n, kTileN),
                         weight_map)) {
    return cudaErrorInvalidValue;
  }
  constexpr int kBandRows = 2048;
  const TileOrder order{tiles(problem.m, kTileM), tiles(problem.n, kTileN), kBandRows / kTileM};
  const Params<SigmoidResidual> params{static_cast<const float*>(args.x),
                                       static_cast<const float*>(args.weight),
                                       problem.x_stride_m,
                                       problem.w_stride_n,
                                       {args.bias, bias_kind(args.bias, problem)},
                                       SigmoidResidual{static_cast<float>(args.scale)},
                                       static_cast<float*>(args.out),
                                       static_cast<int>(problem.m),
                                       static_cast<int>(problem.n),
                                       static_cast<int>(problem.k),
                                       tiles(problem.k, kTileK),
                                       order};

  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kSplitK, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = kSplitK > 1 ? order.count() * kSplitK
                               : std::min(order.count(), std::max(1, args.multiprocessors));
  config.blockDim = kThreads;
  config.dynamicSmemBytes = kShared;
  config.stream = args.stream;
  config.attrs = &cluster;
  config.numAttrs = kSplitK > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kKernel, x_map, weight_map, params);
}

template <int kSplitK>
std::vector<std::string> why_not(const Instance& instance, const Problem& problem) {
  return sm90::reasons_against(instance, kTileM, kTileN / kSplitK, kSplitK, problem);
}

template <class Scheme, int kSplitK, auto kKernel>
Instance instance(const char* label, const char* entry_symbol, const char* summation) {
  return {"cuda.sm90_fp32_split",
          label,
          DType::float32,
          sm90::kCapability,
          sm90::kCapability,
          kTileM,
          kTileN,
          kTileK,
          kRawStages,
          kThreads,
          static_cast<int>(sizeof(SharedStorage<Scheme>)),
          Accumulation{0x1p-24, 0},
          summation,
          &why_not<kSplitK>,
          &launch<Scheme, kSplitK, kKernel>,
          reinterpret_cast<const void*>(kKernel),
          entry_symbol};
}

}  // namespace
}  // namespace fusedops::sm90_fp32

// One kernel a configuration, under a C name: profilers show it and ptxas reports under it.
#define FUSEDOPS_FP32_KERNEL(SCHEME, NAME, SUMMATION, SPLIT_K)                                     \
  extern "C" __global__ void __launch_bounds__(fusedops::sm90_fp32::kThreads, 1)                   \
      gemm_sig_res_sm90_##NAME(                                                                    \
          const __grid_constant__ CUtensorMap x_map,                                               \
          const __grid_constant__ CUtensorMap weight_map,                                          \
          const __grid_constant__ fusedops::sm90_fp32::Params<fusedops::SigmoidResidual> params) { \
    fusedops::sm90_fp32::split_gemm<fusedops::sm90_fp32::SCHEME, SPLIT_K>(x_map, weight_map,       \
                                                                          params);                 \
  }

#define FUSEDOPS_FP32_INSTANCE(SCHEME, NAME, SUMMATION, SPLIT_K)                                  \
  fusedops::sm90_fp32::instance<fusedops::sm90_fp32::SCHEME, SPLIT_K, &gemm_sig_res_sm90_##NAME>( \
      #NAME, "gemm_sig_res_sm90_" #NAME, SUMMATION),

// APPLY(pieces, name, order of summation, blocks that split K)
#define FUSEDOPS_FP32_CONFIGS(APPLY)                        \
  APPLY(ThreeBf16, fp32_128x128x64_bf16x6, "bf16x6_k64", 1) \
  APPLY(ThreeBf16, fp32_128x128x64_bf16x6_split2, "bf16x6_k64_split2", 2)

FUSEDOPS_FP32_CONFIGS(FUSEDOPS_FP32_KERNEL)

namespace fusedops {

std::vector<Instance> sm90_fp32_instances() {
  return {FUSEDOPS_FP32_CONFIGS(FUSEDOPS_FP32_INSTANCE)};
}

}  // namespace fusedops
