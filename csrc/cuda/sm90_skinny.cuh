#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/bias.cuh"
#include "cuda/programmatic_launch.cuh"
#include "cuda/sm90_wgmma.cuh"

// A GEMM for few rows of x on sm_90a, bound by the bandwidth that brings the weights in.
//
// The output's columns are cut into strips; where they are too few for the multiprocessors, a
// cluster of blocks shares a strip, each with a part of K. One thread streams the strip's weights,
// read once and never kept, through a ring of stages; the warpgroups see the problem transposed: 64
// weight rows are the large side of a wgmma and the rows of x the small one. At the end the blocks
// of a cluster own equal parts of each thread's sums. They send each other theirs, in registers'
// order, so that nothing is transposed; whoever owns a sum adds the parts, always in the same
// order, and the epilogue follows in registers.
//
// Two details carry the last tenth of the bandwidth:
// - Strips begin at different places of K and wrap around. If all began at the first column, every
//   block would ask for the same columns of x, and for weights a power of two apart, at once.
// - The kernel starts while its predecessor is still running, beside it on a multiprocessor, and
//   brings the first weights to L2 before it waits for the predecessor's end.
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

template <class Element_, int kRows_, int kColumns_, int kTileK_, int kSplit_, int kStages_>
struct SkinnyConfig {
  using Element = Element_;
  static constexpr int kRows = kRows_;        // of x
  static constexpr int kColumns = kColumns_;  // the widest strip
  static constexpr int kTileK = kTileK_;      // of a stage
  static constexpr int kSplit = kSplit_;      // blocks that share a strip
  static constexpr int kStages = kStages_;

  static constexpr int kGroups = (kColumns + kWgmmaM - 1) / kWgmmaM;  // consumer warpgroups
  static constexpr int kBoxK = kSwizzleBytes / int(sizeof(Element));
  static constexpr int kBoxes = kTileK / kBoxK;  // of either operand, for a stage
  static constexpr int kConsumers = kGroups * kWarpgroup;
  static constexpr int kThreads = kConsumers + kWarp;

  static constexpr int kSums = kRows / 2;  // of one thread
  static constexpr int kOwned = kSums / kSplit;
  static constexpr int kVector = kOwned < 4 ? kOwned : 4;  // floats sent at once

  static_assert(sizeof(Element) == 2 && kRows % 8 == 0 && kColumns % 8 == 0 && kTileK % kBoxK == 0);
  static_assert(kSums % kSplit == 0 && kOwned % kVector == 0);
};

template <class Config>
struct alignas(kSwizzleAtomBytes) SkinnyStorage {
  using Element = typename Config::Element;
  struct Stage {
    Element weight[Config::kBoxes][Config::kColumns][Config::kBoxK];
    Element x[Config::kBoxes][Config::kRows][Config::kBoxK];
  };
  static constexpr bool kShared = Config::kSplit > 1;

  Stage stages[Config::kStages];
  // Each thread's own sums, from every other part of K in turn.
  float received[kShared ? Config::kSplit - 1 : 1][kShared ? Config::kOwned / Config::kVector : 1]
                [kShared ? Config::kConsumers : 1][Config::kVector];
  uint64_t full[Config::kStages];
  uint64_t empty[Config::kStages];
  uint64_t all_received;

  // A warpgroup multiplies 64 rows even where its strip ends before: they lie in this storage too.
  static_assert(Config::kGroups * kWgmmaM * kSwizzleBytes <=
                sizeof(Stage) / Config::kBoxes + sizeof(received));
};

template <class Element, class Epilogue>
struct SkinnyParams {
  Bias<Element> bias;
  Element* out;
  int m, n;
  int k_tiles;
  int strips;
  int weight_rows;  // of a TMA box: the widest strip, in whole swizzle atoms
  bool early_successor;
  Epilogue epilogue;
};

// What one block does: the columns [first, last), and K tiles that begin at `shift` and wrap.
template <class Config>
struct Strip {
  int first, last;
  int tile, tiles, shift;

  __device__ __forceinline__ Strip(int n, int k_tiles, int strips, int index, int rank) {
    const int64_t pairs = (n + 1) / 2;  // of columns: no two blocks write one word
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

// Its bytes count towards the barrier there.
template <int kFloats>
__device__ __forceinline__ void send_to_block(uint32_t address, const float* values,
                                              uint32_t barrier) {
  if constexpr (kFloats == 4) {
    send_to_block(address, make_float4(values[0], values[1], values[2], values[3]), barrier);
  } else if constexpr (kFloats == 2) {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(
            address),
        "f"(values[0]), "f"(values[1]), "r"(barrier)
        : "memory");
  } else {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(address),
        "f"(values[0]), "r"(barrier)
        : "memory");
  }
}

// Run by one thread.
template <class Config>
__device__ __forceinline__ void stream(SkinnyStorage<Config>& shared, const CUtensorMap& x_map,
                                       const CUtensorMap& weight_map, const Strip<Config>& strip,
                                       int weight_rows, bool early_successor) {
  using Element = typename Config::Element;
  const uint32_t bytes = (weight_rows + Config::kRows) * Config::kTileK * sizeof(Element);
  const uint64_t policy = evict_first();
  uint32_t stage = 0, parity = 1;
#pragma unroll 1
  for (int step = 0; step < strip.tiles; ++step) {
    wait(shared.empty[stage], parity);
    arrive_expecting(shared.full[stage], bytes);
    const int k = strip.column_of_k(step);
#pragma unroll
    for (int box = 0; box < Config::kBoxes; ++box) {
      load_box_once(weight_map, shared.full[stage], shared.stages[stage].weight[box],
                    k + box * Config::kBoxK, strip.first, policy);
      load_box(x_map, shared.full[stage], shared.stages[stage].x[box], k + box * Config::kBoxK, 0);
    }
    if (++stage == Config::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  if (!early_successor) launch_dependents();
}

template <class Config>
__device__ __forceinline__ void multiply(SkinnyStorage<Config>& shared, int steps, int group,
                                         float (&sums)[1][Config::kSums]) {
  constexpr int kNone = -1;
  int in_flight = kNone;
  uint32_t stage = 0, parity = 0;
  const auto release = [&](int finished) {
    if (threadIdx.x % kWarp == 0) arrive(shared.empty[finished]);
  };
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    wait(shared.full[stage], parity);
    pin_registers(sums);
    fence_wgmma();
#pragma unroll
    for (int box = 0; box < Config::kBoxes; ++box) {
      const uint64_t weight =
          wgmma_descriptor(shared.stages[stage].weight[box][0] + group * kWgmmaM * Config::kBoxK);
      const uint64_t x = wgmma_descriptor(shared.stages[stage].x[box]);
#pragma unroll
      for (int k = 0; k < Config::kBoxK / kWgmmaK; ++k) {
        wgmma<typename Config::Element, Config::kRows>(weight + k * kDescriptorStepK,
                                                       x + k * kDescriptorStepK, sums[0], true);
      }
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

// Part p owns the sums [p * kOwned, (p + 1) * kOwned) of every thread. All are added in the order
// of the parts.
template <class Config>
__device__ __forceinline__ void add_parts(SkinnyStorage<Config>& shared, int part,
                                          const float (&sums)[Config::kSums],
                                          float (&total)[Config::kOwned]) {
  constexpr int kVector = Config::kVector, kOthers = Config::kSplit - 1;
  float own[Config::kOwned];
#pragma unroll
  for (int to = 0; to < Config::kSplit; ++to) {
    const float* const share = &sums[to * Config::kOwned];
    if (to == part) {
#pragma unroll
      for (int i = 0; i < Config::kOwned; ++i) own[i] = share[i];
      continue;
    }
    const uint32_t barrier = address_in_block(&shared.all_received, to);
    const uint32_t place =
        address_in_block(shared.received[part - (part > to)][0][threadIdx.x], to);
#pragma unroll
    for (int i = 0; i < Config::kOwned; i += kVector) {
      send_to_block<kVector>(place + i * Config::kConsumers * sizeof(float), share + i, barrier);
    }
  }
  wait_for_other_blocks(shared.all_received, 0);

  float others[kOthers][Config::kOwned];
#pragma unroll
  for (int other = 0; other < kOthers; ++other) {
#pragma unroll
    for (int i = 0; i < Config::kOwned; ++i) {
      others[other][i] = shared.received[other][i / kVector][threadIdx.x][i % kVector];
    }
  }
#pragma unroll
  for (int i = 0; i < Config::kOwned; ++i) {
    total[i] = part == 0 ? own[i] : others[0][i];
#pragma unroll
    for (int from = 1; from < Config::kSplit; ++from) {
      const float later = others[from - 1][i], earlier = others[from < kOthers ? from : 0][i];
      total[i] += part == from ? own[i] : part < from ? later : earlier;
    }
  }
}

// Where a thread's owned sums lie: the first here, the others as in a wgmma's accumulator.
template <class Config>
struct Place {
  int row, column;

  __device__ __forceinline__ Place(int first_column, uint32_t part) {
    const uint32_t first = part * Config::kOwned, lane = threadIdx.x % kWarp;
    row = first / 4 * 8 + first % 2 + lane % 4 * 2;
    column = first_column + threadIdx.x / kWarp * 16 + lane / 4 + first % 4 / 2 * 8;
  }

  static constexpr int rows_down(int i) { return i / 4 * 8 + i % 2; }
  static constexpr int columns_right(int i) { return i % 4 / 2 * 8; }
};

template <class Config, class Epilogue>
__device__ __forceinline__ void store(
    const SkinnyParams<typename Config::Element, Epilogue>& params, const Place<Config>& place,
    int last, const float (&bias)[2], const float (&total)[Config::kOwned]) {
  using Element = typename Config::Element;
  // All at once, pinned before the first branch: one by one, each would wait for its exponential.
  float y[1][Config::kOwned];
#pragma unroll
  for (int i = 0; i < Config::kOwned; ++i) y[0][i] = params.epilogue(total[i], bias[i % 4 / 2]);
  pin_registers(y);
  Element* const out = params.out + int64_t(place.row) * params.n + place.column;
#pragma unroll
  for (int i = 0; i < Config::kOwned; ++i) {
    const int down = place.rows_down(i), right = place.columns_right(i);
    if (place.row + down < params.m && place.column + right < last) {
      out[int64_t(params.n) * down + right] = Element(y[0][i]);
    }
  }
}

template <class Config, class Epilogue>
__device__ __forceinline__ void skinny_gemm(
    const CUtensorMap& x_map, const CUtensorMap& weight_map,
    const SkinnyParams<typename Config::Element, Epilogue>& params) {
  extern __shared__ __align__(kSwizzleAtomBytes) uint8_t shared_memory[];
  auto& shared = *reinterpret_cast<SkinnyStorage<Config>*>(shared_memory);

  const int part = Config::kSplit == 1 ? 0 : block_rank_in_cluster();
  const Strip<Config> strip(params.n, params.k_tiles, params.strips, blockIdx.x / Config::kSplit,
                            part);
  const bool streams = threadIdx.x == Config::kConsumers;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Config::kStages; ++stage) {
      init_barrier(shared.full[stage], 1);
      init_barrier(shared.empty[stage], Config::kConsumers / kWarp);
    }
    init_barrier(shared.all_received, 1);
    constexpr int kFloats = (Config::kSplit - 1) * Config::kOwned * Config::kConsumers;
    if constexpr (Config::kSplit > 1) {
      arrive_expecting(shared.all_received, kFloats * sizeof(float));
    }
    fence_barrier_init();
  }
  if (streams) {
    const int most = (params.early_successor ? 32 : 64) * 1024;
    const int step_bytes = params.weight_rows * kSwizzleBytes * Config::kBoxes;
    const int steps = min(most / step_bytes, (strip.tiles + 3) / 4);
    prefetch_descriptor(x_map);
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
#pragma unroll
      for (int box = 0; box < Config::kBoxes; ++box) {
        prefetch_box(weight_map, strip.column_of_k(step) + box * Config::kBoxK, strip.first);
      }
    }
  }
  if (params.early_successor) launch_dependents();
  if constexpr (Config::kSplit > 1) {
    __syncwarp();
    arrive_at_cluster_unordered();
    wait_for_cluster();
  } else {
    __syncthreads();
  }
  wait_for_predecessor();

  if (threadIdx.x >= Config::kConsumers) {
    if (streams) {
      stream<Config>(shared, x_map, weight_map, strip, params.weight_rows, params.early_successor);
    }
    return;
  }

  const Place<Config> place(strip.first, part);
  const int column = place.column;
  const float bias[2] = {column < strip.last ? params.bias[column] : 0.0f,
                         column + 8 < strip.last ? params.bias[column + 8] : 0.0f};

  float sums[1][Config::kSums] = {};
  multiply<Config>(shared, strip.tiles, threadIdx.x / kWarpgroup, sums);
  if constexpr (Config::kSplit > 1) {
    float total[Config::kOwned];
    add_parts<Config>(shared, part, sums[0], total);
    store<Config>(params, place, strip.last, bias, total);
  } else {
    store<Config>(params, place, strip.last, bias, sums[0]);
  }
}

}  // namespace fusedops::sm90
