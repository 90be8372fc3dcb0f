#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/bias.cuh"
#include "cuda/programmatic_launch.cuh"
#include "cuda/sm90_wgmma.cuh"

// A GEMM for few rows of x on sm_90a, bound by the bandwidth that brings the weights in.
//
// The output's columns are cut into one even strip for every multiprocessor, so that all end
// together; where there are too few columns, a cluster of blocks shares a strip, each with a part
// of K. One thread streams the strip's weights, read once and never kept, through a ring of stages;
// the warpgroups see the problem transposed: 64 weight rows are the large side of a wgmma and the
// rows of x the small one. At the end the sums meet in the shared memory of the block that owns the
// row, always in the same order, and the epilogue follows the complete sum.
//
// Two details carry the last tenth of the bandwidth:
// - Strips begin at different places of K and wrap around. If all began at the first column, every
//   block would ask for the same columns of x, and for weights a power of two apart, at once.
// - The kernel starts while its predecessor is still running, beside it on every multiprocessor
// (two
//   blocks fit), and brings the first weights to L2 before it waits for the predecessor's end.
namespace fusedops::sm90 {

namespace detail {
#define FUSEDOPS_WGMMA_FEW_ROWS(N)                                               \
  template <>                                                                    \
  struct Wgmma<__nv_bfloat16, N>                                                 \
      : cute::SM90::GMMA::MMA_64x##N##x16_F32BF16BF16_SS<Major::K, Major::K> {}; \
  template <>                                                                    \
  struct Wgmma<__half, N> : cute::SM90::GMMA::MMA_64x##N##x16_F32F16F16_SS<Major::K, Major::K> {};
FUSEDOPS_WGMMA_FEW_ROWS(8)
FUSEDOPS_WGMMA_FEW_ROWS(16)
FUSEDOPS_WGMMA_FEW_ROWS(32)
#undef FUSEDOPS_WGMMA_FEW_ROWS
}  // namespace detail

template <class Element_, int kRows_, int kGroups_, int kSplit_, int kStages_>
struct SkinnyConfig {
  using Element = Element_;
  static constexpr int kRows = kRows_;      // of x
  static constexpr int kGroups = kGroups_;  // consumer warpgroups, 64 columns each
  static constexpr int kSplit = kSplit_;    // blocks that share a strip
  static constexpr int kStages = kStages_;

  static constexpr int kColumns = kGroups * kWgmmaM;  // the widest strip
  static constexpr int kTileK = kSwizzleBytes / int(sizeof(Element));
  static constexpr int kConsumers = kGroups * kWarpgroup;
  static constexpr int kThreads = kConsumers + kWarp;
  static constexpr int kOwnedRows = kRows / kSplit;

  // Floats between two rows of sums: a warp's fragments lie in distinct banks.
  static constexpr int kSumPitch = kColumns + 4;

  static_assert(sizeof(Element) == 2 && kRows % 8 == 0 && kRows % kSplit == 0);
};

template <class Config>
struct alignas(kSwizzleAtomBytes) SkinnyStorage {
  using Element = typename Config::Element;
  struct Stage {
    Element weight[Config::kColumns][Config::kTileK];
    Element x[Config::kRows][Config::kTileK];
  };
  union {
    Stage stages[Config::kStages];
    // Every block's part of the rows that this block stores.
    float sums[Config::kSplit][Config::kOwnedRows][Config::kSumPitch];
  };
  uint64_t full[Config::kStages];
  uint64_t empty[Config::kStages];
};

template <class Element, class Epilogue>
struct SkinnyParams {
  Bias<Element> bias;
  Element* out;
  int m, n;
  int k_tiles;
  int strips;
  int weight_rows;  // of a TMA box: the widest strip, in whole swizzle atoms
  bool pair_stores;
  Epilogue epilogue;
};

// What one block does: the columns [first, last), and K tiles that begin at `shift` and wrap.
template <class Config>
struct Strip {
  int first, last;
  int tile, tiles, shift;

  __device__ __forceinline__ Strip(int n, int k_tiles, int strips, int index, int rank) {
    const int64_t pairs = (n + 1) / 2;  // whole pairs of columns: they are stored together
    first = int(pairs * index / strips) * 2;
    last = min(int(pairs * (index + 1) / strips) * 2, n);
    tile = int(int64_t(k_tiles) * rank / Config::kSplit);
    tiles = int(int64_t(k_tiles) * (rank + 1) / Config::kSplit) - tile;
    constexpr uint32_t kGoldenRatio = 0x9E3779B1;  // neighbours land far apart
    shift = tiles > 0 ? (index * kGoldenRatio >> 12) % uint32_t(tiles) : 0;
  }

  __device__ __forceinline__ int column_of_k(int step) const {
    const int place = shift + step;
    return (tile + (place >= tiles ? place - tiles : place)) * Config::kTileK;
  }
};

__device__ __forceinline__ uint64_t evict_first() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ void load_box_once(const CUtensorMap& map, uint64_t& barrier,
                                              void* destination, int column, int row,
                                              uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(destination)),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&barrier)), "r"(column), "r"(row),
      "l"(policy)
      : "memory");
}

__device__ __forceinline__ void prefetch_box(const CUtensorMap& map, int column, int row) {
  asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global [%0, {%1, %2}];" ::"l"(
                   reinterpret_cast<uint64_t>(&map)),
               "r"(column), "r"(row)
               : "memory");
}

__device__ __forceinline__ void store_cluster_shared(uint32_t address, float value) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}

__device__ __forceinline__ __half2 pack_pair(float low, float high, __half) {
  return __floats2half2_rn(low, high);
}
__device__ __forceinline__ __nv_bfloat162 pack_pair(float low, float high, __nv_bfloat16) {
  return __floats2bfloat162_rn(low, high);
}

// Run by one thread.
template <class Config>
__device__ __forceinline__ void stream(SkinnyStorage<Config>& shared, const CUtensorMap& x_map,
                                       const CUtensorMap& weight_map, const Strip<Config>& strip,
                                       int weight_rows) {
  using Element = typename Config::Element;
  const uint32_t bytes = (weight_rows + Config::kRows) * Config::kTileK * sizeof(Element);
  const uint64_t policy = evict_first();
  uint32_t stage = 0, parity = 1;
#pragma unroll 1
  for (int step = 0; step < strip.tiles; ++step) {
    wait(shared.empty[stage], parity);
    arrive_expecting(shared.full[stage], bytes);
    const int k = strip.column_of_k(step);
    load_box_once(weight_map, shared.full[stage], shared.stages[stage].weight, k, strip.first,
                  policy);
    load_box(x_map, shared.full[stage], shared.stages[stage].x, k, 0);
    if (++stage == Config::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

template <class Config>
__device__ __forceinline__ void multiply(SkinnyStorage<Config>& shared, int steps, int group,
                                         float (&sums)[1][Config::kRows / 2]) {
  constexpr int kNone = -1;
  int in_flight = kNone;
  uint32_t stage = 0, parity = 0;
  const auto release = [&](int finished) {
    if (threadIdx.x % kWarp == 0) arrive(shared.empty[finished]);
  };
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    wait(shared.full[stage], parity);
    const uint64_t weight = wgmma_descriptor(shared.stages[stage].weight[group * kWgmmaM]);
    const uint64_t x = wgmma_descriptor(shared.stages[stage].x);
    pin_registers(sums);
    fence_wgmma();
#pragma unroll
    for (int k = 0; k < Config::kTileK / kWgmmaK; ++k) {
      wgmma<typename Config::Element, Config::kRows>(weight + k * kDescriptorStepK,
                                                     x + k * kDescriptorStepK, sums[0], true);
    }
    commit_wgmma();
    if (in_flight != kNone) {
      wait_wgmma<1>();
      release(in_flight);
    }
    in_flight = stage;
    if (++stage == Config::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  wait_wgmma<0>();
  pin_registers(sums);
}

// Row r belongs to block r % kSplit of the cluster.
template <class Config>
__device__ __forceinline__ void send_sums(SkinnyStorage<Config>& shared, int m, int rank,
                                          const float (&sums)[1][Config::kRows / 2]) {
  const int lane = threadIdx.x % kWarp;
  const int column = threadIdx.x / kWarp * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < Config::kRows / 2; ++i) {
    const int row = i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (row >= m) continue;
    float& place = shared.sums[rank][row / Config::kSplit][column + i % 4 / 2 * 8];
    if constexpr (Config::kSplit == 1) {
      place = sums[0][i];
    } else {
      store_cluster_shared(address_in_block(&place, row % Config::kSplit), sums[0][i]);
    }
  }
}

// A thread has two columns; a warp takes one row after the other.
template <class Config, class Epilogue>
__device__ __forceinline__ void store_owned_rows(
    const SkinnyStorage<Config>& shared,
    const SkinnyParams<typename Config::Element, Epilogue>& params, const Strip<Config>& strip,
    int rank, int column, float bias0, float bias1) {
  using Element = typename Config::Element;
  constexpr int kWarps = kWarpgroup / kWarp;
  const int n = strip.first + column;
#pragma unroll 2
  for (int i = threadIdx.x % kWarpgroup / kWarp; i < Config::kOwnedRows; i += kWarps) {
    const int row = i * Config::kSplit + rank;
    if (row >= params.m) break;
    float sum0 = 0.0f, sum1 = 0.0f;
#pragma unroll
    for (int part = 0; part < Config::kSplit; ++part) {
      sum0 += shared.sums[part][i][column];
      sum1 += shared.sums[part][i][column + 1];
    }
    const float y0 = params.epilogue(sum0, bias0), y1 = params.epilogue(sum1, bias1);
    Element* const out = params.out + int64_t(row) * params.n + n;
    if (params.pair_stores && n < strip.last) {
      const auto pair = pack_pair(y0, y1, Element{});
      *reinterpret_cast<uint32_t*>(out) = reinterpret_cast<const uint32_t&>(pair);
    } else {
      if (n < strip.last) out[0] = Element(y0);
      if (n + 1 < strip.last) out[1] = Element(y1);
    }
  }
}

template <class Config, class Epilogue>
__device__ __forceinline__ void skinny_gemm(
    const CUtensorMap& x_map, const CUtensorMap& weight_map,
    const SkinnyParams<typename Config::Element, Epilogue>& params) {
  extern __shared__ __align__(kSwizzleAtomBytes) uint8_t shared_memory[];
  auto& shared = *reinterpret_cast<SkinnyStorage<Config>*>(shared_memory);

  const int rank = Config::kSplit == 1 ? 0 : block_rank_in_cluster();
  const Strip<Config> strip(params.n, params.k_tiles, params.strips, blockIdx.x / Config::kSplit,
                            rank);
  const bool streams = threadIdx.x == Config::kConsumers;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Config::kStages; ++stage) {
      init_barrier(shared.full[stage], 1);
      init_barrier(shared.empty[stage], Config::kConsumers / kWarp);
    }
    fence_barrier_init();
  }
  if (streams) {
    constexpr int kPrefetchedBytes = 64 * 1024;
    const int steps = kPrefetchedBytes / (params.weight_rows * kSwizzleBytes);
    prefetch_descriptor(x_map);
#pragma unroll 1
    for (int step = 0; step < min(steps, strip.tiles); ++step) {
      prefetch_box(weight_map, strip.column_of_k(step), strip.first);
    }
  }
  launch_dependents();
  __syncthreads();
  wait_for_predecessor();

  if (threadIdx.x >= Config::kConsumers) {
    if (streams) stream<Config>(shared, x_map, weight_map, strip, params.weight_rows);
    if constexpr (Config::kSplit > 1) {  // the consumers' two meetings
      __syncwarp();
      sync_cluster();
      sync_cluster();
    }
    return;
  }

  const int group = threadIdx.x / kWarpgroup;
  const int column = group * kWgmmaM + threadIdx.x % kWarp * 2;
  const int n = strip.first + column;
  const float bias0 = n < strip.last ? params.bias[n] : 0.0f;
  const float bias1 = n + 1 < strip.last ? params.bias[n + 1] : 0.0f;

  float sums[1][Config::kRows / 2] = {};
  multiply<Config>(shared, strip.tiles, group, sums);

  // The sums take the place of the stages: first every reader of those is done, in every block that
  // receives some.
  constexpr int kConsumersMeet = 1;
  const auto meet = [] {
    if constexpr (Config::kSplit > 1) {
      sync_cluster();
    } else {
      asm volatile("bar.sync %0, %1;" ::"n"(kConsumersMeet), "n"(Config::kConsumers) : "memory");
    }
  };
  meet();
  send_sums<Config>(shared, params.m, rank, sums);
  meet();
  store_owned_rows<Config>(shared, params, strip, rank, column, bias0, bias1);
}

}  // namespace fusedops::sm90
