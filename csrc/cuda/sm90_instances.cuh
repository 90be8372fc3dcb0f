#pragma once

#include <algorithm>
#include <atomic>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/epilogues.cuh"
#include "cuda/instance.h"
#include "cuda/sm90_predicate.h"
#include "cuda/sm90_resident_clusters.h"
#include "cuda/sm90_tensor_map.h"
#include "cuda/sm90_warp_specialized.cuh"

namespace fusedops::sm90 {

template <class Config, class Epilogue>
using Kernel = void (*)(CUtensorMap a_map, CUtensorMap b_map, CUtensorMap out_map,
                        Params<typename Config::Element, Epilogue> params);

template <class Config>
constexpr DType kDType = std::is_same_v<typename Config::Element, float>    ? DType::float32
                         : std::is_same_v<typename Config::Element, __half> ? DType::float16
                                                                            : DType::bfloat16;

inline int tiles(int64_t extent, int64_t tile) {
  return static_cast<int>((extent + tile - 1) / tile);
}

// About as many rows as the columns that the other tiles in flight then span.
template <class Config>
TileOrder tile_order(const Problem& problem) {
  constexpr int kBandRows = 2048;
  constexpr int kClusterRows = Config::kTileM * Config::kClusterM;
  constexpr int kClusterColumns = Config::kTileN * Config::kClusterN;
  const int64_t rows = Config::kTransposed ? problem.n : problem.m;
  const int64_t columns = Config::kTransposed ? problem.m : problem.n;
  return {tiles(rows, kClusterRows), tiles(columns, kClusterColumns),
          std::max(1, kBandRows / kClusterRows)};
}

// A matrix of one row has no stride to follow, but the tensor map wants a legal one.
inline MatrixView operand(const void* data, DType dtype, int64_t rows, int64_t k,
                          int64_t row_stride, int box_rows, int box_columns) {
  const int64_t unit = 16 / size_of(dtype);
  const int64_t dense = (k + unit - 1) / unit * unit;
  return {data, dtype, rows, k, rows == 1 ? dense : row_stride, box_rows, box_columns};
}

template <class Config, class Epilogue, Kernel<Config, Epilogue> kKernel>
cudaError_t launch(const GemmArgs& args) {
  using Element = typename Config::Element;
  constexpr DType kType = kDType<Config>;
  const Problem& problem = args.problem;
  static_assert(sizeof(SharedStorage<Config>) <= kMaxSharedMemory);
  constexpr int kBoxRowsX = Config::kTransposed ? Config::kBoxRowsB : Config::kBoxRowsA;
  constexpr int kBoxRowsWeight = Config::kTransposed ? Config::kBoxRowsA : Config::kBoxRowsB;
  CUtensorMap x_map{}, weight_map{}, out_map{};
  const bool store_by_tma = problem.n * size_of(kType) % 16 == 0;
  bool encoded = encode_tensor_map(operand(args.x, kType, problem.m, problem.k, problem.x_stride_m,
                                           kBoxRowsX, Config::kBoxColumns),
                                   x_map) &&
                 encode_tensor_map(operand(args.weight, kType, problem.n, problem.k,
                                           problem.w_stride_n, kBoxRowsWeight, Config::kBoxColumns),
                                   weight_map);
  if (store_by_tma) {
    encoded = encoded && encode_tensor_map({args.out, kType, problem.m, problem.n, problem.n,
                                            Config::kOutBoxRows, Config::kOutBoxColumns},
                                           out_map);
  }
  if (!encoded) return cudaErrorInvalidValue;

  const TileOrder order = tile_order<Config>(problem);
  const Operand<Element> x{static_cast<const Element*>(args.x), problem.x_stride_m,
                           static_cast<int>(problem.m)};
  const Operand<Element> weight{static_cast<const Element*>(args.weight), problem.w_stride_n,
                                static_cast<int>(problem.n)};
  const Params<Element, Epilogue> params{Config::kTransposed ? weight : x,
                                         Config::kTransposed ? x : weight,
                                         {args.bias, bias_kind(args.bias, problem)},
                                         Epilogue{static_cast<float>(args.scale)},
                                         static_cast<Element*>(args.out),
                                         static_cast<int>(problem.m),
                                         static_cast<int>(problem.n),
                                         tiles(problem.k, Config::kTileK),
                                         order,
                                         store_by_tma};

  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {Config::kClusterSize, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = Config::kClusterSize;
  config.blockDim = Config::kThreads;
  config.dynamicSmemBytes = sizeof(SharedStorage<Config>);
  config.stream = args.stream;
  config.attrs = &cluster;
  config.numAttrs = 1;

  static ResidentClusters resident;
  int clusters;
  if (const cudaError_t error =
          resident.count(reinterpret_cast<const void*>(kKernel), config, clusters);
      error != cudaSuccess) {
    return error;
  }
  config.gridDim = std::min(order.count(), clusters) * Config::kClusterSize;
  const CUtensorMap& a_map = Config::kTransposed ? weight_map : x_map;
  const CUtensorMap& b_map = Config::kTransposed ? x_map : weight_map;
  return cudaLaunchKernelEx(&config, kKernel, a_map, b_map, out_map, params);
}

template <class Config>
std::vector<std::string> why_not(const Instance& instance, const Problem& problem) {
  constexpr int kClusterM = Config::kClusterM * Config::kTileM;
  constexpr int kClusterN = Config::kClusterN * Config::kTileN;
  return Config::kTransposed
             ? reasons_against(instance, kClusterN, kClusterM, Config::kSplitK, problem)
             : reasons_against(instance, kClusterM, kClusterN, Config::kSplitK, problem);
}

// The transpose adds alike, but takes other reciprocals together.
template <class Config>
constexpr const char* summation() {
  if (Config::kTransposed) {
    return Config::kSplitK == 1 ? "wgmma_k16_transposed" : "wgmma_k16_split2_transposed";
  }
  switch (Config::kSplitK) {
    case 1:
      return "wgmma_k16";
    case 2:
      return "wgmma_k16_split2";
    default:
      return "wgmma_k16_split4";
  }
}

template <class Config, class Epilogue, Kernel<Config, Epilogue> kKernel>
Instance instance(const char* label, const char* entry_symbol) {
  return {Config::kPingpong     ? "cuda.sm90_pingpong"
          : Config::kTransposed ? "cuda.sm90_transposed"
                                : "cuda.sm90_cooperative",
          label,
          kDType<Config>,
          kCapability,
          kCapability,
          Config::kTransposed ? Config::kTileN : Config::kTileM,
          Config::kTransposed ? Config::kTileM : Config::kTileN,
          Config::kTileK,
          Config::kStages,
          Config::kThreads,
          static_cast<int>(sizeof(SharedStorage<Config>)),
          kTensorCoreChain,
          summation<Config>(),
          &why_not<Config>,
          &launch<Config, Epilogue, kKernel>,
          reinterpret_cast<const void*>(kKernel),
          entry_symbol,
          Config::kClusterM,
          Config::kClusterN};
}

}  // namespace fusedops::sm90

// One kernel a configuration, under a C name: profilers show it and ptxas reports under it.
#define FUSEDOPS_SM90_ENTRY(PREFIX, SCHEDULE, M, N, K, STAGES, CM, CN, CK) \
  gemm_sig_res_sm90_##SCHEDULE##_##PREFIX##_##M##x##N##x##K##_s##STAGES##_c##CM##x##CN##x##CK

#define FUSEDOPS_SM90_CONFIG(ELEMENT, SCHEDULE, M, N, K, STAGES, CM, CN, CK) \
  ::fusedops::sm90::Config<ELEMENT, ::fusedops::sm90::Schedule::SCHEDULE,    \
                           ::fusedops::sm90::Tile<M, N, K>, STAGES,          \
                           ::fusedops::sm90::Cluster<CM, CN, CK>>

#define FUSEDOPS_SM90_KERNEL(PREFIX, ELEMENT, SCHEDULE, M, N, K, STAGES, CM, CN, CK)            \
  extern "C" __global__ void __launch_bounds__(                                                 \
      FUSEDOPS_SM90_CONFIG(ELEMENT, SCHEDULE, M, N, K, STAGES, CM, CN, CK)::kThreads, 1)        \
      FUSEDOPS_SM90_ENTRY(PREFIX, SCHEDULE, M, N, K, STAGES, CM, CN, CK)(                       \
          const __grid_constant__ CUtensorMap a_map, const __grid_constant__ CUtensorMap b_map, \
          const __grid_constant__ CUtensorMap out_map,                                          \
          const __grid_constant__::fusedops::sm90::Params<ELEMENT, ::fusedops::SigmoidResidual> \
              params) {                                                                         \
    ::fusedops::sm90::warp_specialized_gemm<FUSEDOPS_SM90_CONFIG(                               \
        ELEMENT, SCHEDULE, M, N, K, STAGES, CM, CN, CK)>(a_map, b_map, out_map, params);        \
  }

#define FUSEDOPS_SM90_INSTANCE(PREFIX, ELEMENT, SCHEDULE, M, N, K, STAGES, CM, CN, CK)             \
  ::fusedops::sm90::instance<FUSEDOPS_SM90_CONFIG(ELEMENT, SCHEDULE, M, N, K, STAGES, CM, CN, CK), \
                             ::fusedops::SigmoidResidual,                                          \
                             &FUSEDOPS_SM90_ENTRY(PREFIX, SCHEDULE, M, N, K, STAGES, CM, CN, CK)>( \
      #PREFIX "_" #M "x" #N "x" #K "_s" #STAGES "_c" #CM "x" #CN "x" #CK,                          \
      FUSEDOPS_SM90_STRING(FUSEDOPS_SM90_ENTRY(PREFIX, SCHEDULE, M, N, K, STAGES, CM, CN, CK))),

#define FUSEDOPS_SM90_STRING(TEXT) FUSEDOPS_SM90_STRING_OF(TEXT)
#define FUSEDOPS_SM90_STRING_OF(TEXT) #TEXT

// APPLY(..., schedule, tile m, n, k, stages, cluster m, n, k)
#define FUSEDOPS_SM90_CONFIGS(APPLY, ...)                   \
  APPLY(__VA_ARGS__, cooperative, 128, 256, 64, 4, 2, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 256, 64, 4, 1, 2, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 256, 64, 4, 1, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 256, 128, 64, 4, 1, 2, 1) \
  APPLY(__VA_ARGS__, cooperative, 256, 144, 64, 4, 1, 2, 1) \
  APPLY(__VA_ARGS__, cooperative, 256, 160, 64, 4, 1, 2, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 64, 6, 2, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 64, 6, 1, 2, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 64, 6, 1, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 64, 64, 8, 2, 1, 1)  \
  APPLY(__VA_ARGS__, cooperative, 128, 64, 128, 4, 1, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 64, 5, 1, 1, 2) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 64, 5, 1, 1, 4) \
  APPLY(__VA_ARGS__, cooperative, 128, 64, 64, 8, 1, 1, 2)  \
  APPLY(__VA_ARGS__, pingpong, 128, 192, 64, 5, 2, 1, 1)    \
  APPLY(__VA_ARGS__, pingpong, 128, 176, 64, 5, 2, 1, 1)    \
  APPLY(__VA_ARGS__, pingpong, 128, 160, 64, 5, 2, 1, 1)    \
  APPLY(__VA_ARGS__, pingpong, 128, 128, 64, 6, 2, 1, 1)    \
  APPLY(__VA_ARGS__, pingpong, 128, 128, 64, 6, 1, 2, 1)    \
  APPLY(__VA_ARGS__, pingpong, 128, 128, 64, 6, 1, 1, 1)    \
  APPLY(__VA_ARGS__, pingpong, 64, 256, 64, 4, 2, 1, 1)     \
  APPLY(__VA_ARGS__, transposed, 208, 128, 64, 5, 1, 2, 1)  \
  APPLY(__VA_ARGS__, transposed, 144, 256, 64, 4, 1, 2, 1)  \
  APPLY(__VA_ARGS__, transposed, 96, 128, 64, 5, 1, 1, 2)   \
  APPLY(__VA_ARGS__, transposed, 128, 64, 64, 8, 1, 1, 1)
