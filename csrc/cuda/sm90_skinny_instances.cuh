#pragma once

#include <algorithm>
#include <atomic>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/epilogues.cuh"
#include "cuda/instance.h"
#include "cuda/shared_memory.h"
#include "cuda/sm90_predicate.h"
#include "cuda/sm90_skinny.cuh"
#include "cuda/sm90_tensor_map.h"

namespace fusedops::sm90 {

template <class Config, class Epilogue>
using SkinnyKernel = void (*)(CUtensorMap x_map, CUtensorMap weight_map,
                              SkinnyParams<typename Config::Element, Epilogue> params);

struct StripPlan {
  int strips;
  int widest;  // columns
  bool early_successor;
};

// The fewest strips; or for much weight as many as fill every multiprocessor once, unless they were
// much narrower and fetched x too often. Then each has exactly one place free, and the successor
// may start at once: with some idle it would put two blocks there, and end late. Otherwise it waits
// for the last loads to be under way. Strips are whole pairs of columns. Nothing here depends on
// M or on the rows of x: the strips decide the order of the sums.
template <class Config>
StripPlan plan_strips(int64_t n, int64_t k, int multiprocessors) {
  constexpr int64_t kWidestPairs = Config::kColumns / 2;
  constexpr int64_t kMuch = 320 * 1024;  // bytes of weight for each multiprocessor
  const auto ceil_div = [](int64_t value, int64_t by) { return (value + by - 1) / by; };
  const int64_t pairs = ceil_div(n, 2), fewest = ceil_div(pairs, kWidestPairs);
  const int64_t even = std::min<int64_t>(pairs, std::max(1, multiprocessors / Config::kSplit));
  const bool much = n * k * int64_t{sizeof(typename Config::Element)} >= kMuch * multiprocessors;
  // Clusters of more than two leave multiprocessors idle in any case.
  const bool fill = much && Config::kSplit <= 2 && fewest <= even && 3 * even <= 5 * fewest;
  const int64_t strips = fill ? even : fewest;
  return {static_cast<int>(strips), static_cast<int>(ceil_div(pairs, strips)) * 2, fill};
}

template <class Config, class Epilogue, SkinnyKernel<Config, Epilogue> kKernel>
cudaError_t launch_skinny(const GemmArgs& args) {
  using Element = typename Config::Element;
  constexpr int kSharedMemory = sizeof(SkinnyStorage<Config>);
  constexpr DType kType = std::is_same_v<Element, __half> ? DType::float16 : DType::bfloat16;
  static_assert(kSharedMemory <= 227 * 1024);
  static std::atomic<uint64_t> prepared{0};
  if (const cudaError_t error =
          allow_shared_memory(prepared, reinterpret_cast<const void*>(kKernel), kSharedMemory);
      error != cudaSuccess) {
    return error;
  }

  const Problem& problem = args.problem;
  const StripPlan plan = plan_strips<Config>(problem.n, problem.k, args.multiprocessors);
  constexpr int kAtomRows = kSwizzleAtomBytes / kSwizzleBytes;
  const int weight_rows = (plan.widest + kAtomRows - 1) / kAtomRows * kAtomRows;
  // A matrix of one row has no stride to follow, but the tensor map wants a legal one.
  const int64_t dense = (problem.k + 7) / 8 * 8;
  constexpr bool kWidened = false;  // fetching more than a box asks for does not pay: measured
  CUtensorMap x_map{}, weight_map{};
  if (!encode_tensor_map(
          {args.x, kType, problem.m, problem.k, problem.m == 1 ? dense : problem.x_stride_m,
           Config::kRows, Config::kBoxK},
          x_map) ||
      !encode_tensor_map(
          {args.weight, kType, problem.n, problem.k, problem.n == 1 ? dense : problem.w_stride_n,
           weight_rows, Config::kBoxK, kWidened},
          weight_map)) {
    return cudaErrorInvalidValue;
  }
  const SkinnyParams<Element, Epilogue> params{
      {args.bias, bias_kind(args.bias, problem)},
      static_cast<Element*>(args.out),
      static_cast<int>(problem.m),
      static_cast<int>(problem.n),
      static_cast<int>((problem.k + Config::kTileK - 1) / Config::kTileK),
      plan.strips,
      weight_rows,
      plan.early_successor,
      Epilogue{static_cast<float>(args.scale)}};

  cudaLaunchAttribute attributes[2] = {overlap_with_predecessor()};
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {Config::kSplit, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = plan.strips * Config::kSplit;
  config.blockDim = Config::kThreads;
  config.dynamicSmemBytes = kSharedMemory;
  config.stream = args.stream;
  config.attrs = attributes;
  config.numAttrs = Config::kSplit > 1 ? 2 : 1;
  return cudaLaunchKernelEx(&config, kKernel, x_map, weight_map, params);
}

template <class Config>
std::vector<std::string> why_not_skinny(const Instance& instance, const Problem& problem) {
  std::vector<std::string> reasons =
      reasons_against(instance, Config::kRows, Config::kColumns, /*split_k=*/1, problem);
  if (problem.m > Config::kRows) {
    reasons.push_back("it is for at most " + std::to_string(Config::kRows) + " rows of x, not " +
                      std::to_string(problem.m));
  }
  return reasons;
}

template <class Config, class Epilogue, SkinnyKernel<Config, Epilogue> kKernel>
Instance skinny_instance(const char* label, const char* summation, const char* entry_symbol) {
  return {"cuda.sm90_skinny",
          label,
          std::is_same_v<typename Config::Element, __half> ? DType::float16 : DType::bfloat16,
          kCapability,
          kCapability,
          Config::kRows,
          Config::kColumns,
          Config::kTileK,
          Config::kStages,
          Config::kThreads,
          static_cast<int>(sizeof(SkinnyStorage<Config>)),
          kTensorCoreChain,
          summation,
          &why_not_skinny<Config>,
          &launch_skinny<Config, Epilogue, kKernel>,
          reinterpret_cast<const void*>(kKernel),
          entry_symbol};
}

}  // namespace fusedops::sm90

// One kernel a configuration, under a C name: profilers show it and ptxas reports under it.
#define FUSEDOPS_SM90_SKINNY_ENTRY(PREFIX, ROWS, COLUMNS, TILE_K, SPLIT, STAGES) \
  gemm_sig_res_sm90_skinny_##PREFIX##_##ROWS##x##COLUMNS##x##TILE_K##_s##STAGES##_c##SPLIT

#define FUSEDOPS_SM90_SKINNY_CONFIG(ELEMENT, ...) \
  ::fusedops::sm90::SkinnyConfig<ELEMENT, __VA_ARGS__>

#define FUSEDOPS_SM90_SKINNY_KERNEL(PREFIX, ELEMENT, ...)                                         \
  extern "C" __global__ void __launch_bounds__(FUSEDOPS_SM90_SKINNY_CONFIG(                       \
      ELEMENT, __VA_ARGS__)::kThreads) FUSEDOPS_SM90_SKINNY_ENTRY(PREFIX,                         \
                                                                  __VA_ARGS__)(                   \
      const __grid_constant__ CUtensorMap x_map, const __grid_constant__ CUtensorMap weight_map,  \
      const __grid_constant__::fusedops::sm90::SkinnyParams<ELEMENT, ::fusedops::SigmoidResidual> \
          params) {                                                                               \
    ::fusedops::sm90::skinny_gemm<FUSEDOPS_SM90_SKINNY_CONFIG(ELEMENT, __VA_ARGS__)>(             \
        x_map, weight_map, params);                                                               \
  }

// The order of the sums depends on where a strip begins in K, hence on the strips' width.
#define FUSEDOPS_SM90_SKINNY_INSTANCE(PREFIX, ELEMENT, ROWS, COLUMNS, TILE_K, SPLIT, STAGES) \
  ::fusedops::sm90::skinny_instance<                                                         \
      FUSEDOPS_SM90_SKINNY_CONFIG(ELEMENT, ROWS, COLUMNS, TILE_K, SPLIT, STAGES),            \
      ::fusedops::SigmoidResidual,                                                           \
      &FUSEDOPS_SM90_SKINNY_ENTRY(PREFIX, ROWS, COLUMNS, TILE_K, SPLIT, STAGES)>(            \
      #PREFIX "_" #ROWS "x" #COLUMNS "x" #TILE_K "_s" #STAGES "_c" #SPLIT,                   \
      "wgmma_k16_strips" #COLUMNS "x" #TILE_K "_split" #SPLIT,                               \
      FUSEDOPS_SM90_SKINNY_STRING(                                                           \
          FUSEDOPS_SM90_SKINNY_ENTRY(PREFIX, ROWS, COLUMNS, TILE_K, SPLIT, STAGES))),

#define FUSEDOPS_SM90_SKINNY_STRING(TEXT) FUSEDOPS_SM90_SKINNY_STRING_OF(TEXT)
#define FUSEDOPS_SM90_SKINNY_STRING_OF(TEXT) #TEXT

// APPLY(..., rows of x, widest strip, K of a stage, blocks that split K, stages)
#define FUSEDOPS_SM90_SKINNY_CONFIGS(APPLY, ...) \
  APPLY(__VA_ARGS__, 8, 64, 128, 2, 6)           \
  APPLY(__VA_ARGS__, 8, 64, 64, 4, 7)            \
  APPLY(__VA_ARGS__, 8, 128, 64, 1, 6)           \
  APPLY(__VA_ARGS__, 8, 128, 64, 2, 6)           \
  APPLY(__VA_ARGS__, 16, 64, 64, 2, 10)          \
  APPLY(__VA_ARGS__, 16, 64, 64, 4, 7)           \
  APPLY(__VA_ARGS__, 16, 64, 64, 8, 7)           \
  APPLY(__VA_ARGS__, 16, 128, 64, 1, 6)          \
  APPLY(__VA_ARGS__, 16, 128, 64, 2, 6)          \
  APPLY(__VA_ARGS__, 32, 64, 64, 2, 8)           \
  APPLY(__VA_ARGS__, 32, 64, 64, 4, 5)           \
  APPLY(__VA_ARGS__, 32, 72, 64, 8, 5)           \
  APPLY(__VA_ARGS__, 32, 128, 64, 1, 5)          \
  APPLY(__VA_ARGS__, 32, 128, 64, 2, 5)          \
  APPLY(__VA_ARGS__, 64, 64, 64, 2, 6)           \
  APPLY(__VA_ARGS__, 64, 64, 64, 4, 4)           \
  APPLY(__VA_ARGS__, 64, 72, 64, 8, 5)           \
  APPLY(__VA_ARGS__, 64, 128, 64, 1, 9)          \
  APPLY(__VA_ARGS__, 64, 128, 128, 2, 4)         \
  APPLY(__VA_ARGS__, 64, 144, 64, 4, 6)
