#pragma once

#include "cuda/sm90_output.cuh"
#include "cuda/sm90_split_k.cuh"

// A persistent, warp-specialised GEMM for sm_90a. One thread of the producer warpgroup keeps a ring
// of shared-memory stages filled by TMA; the consumer warpgroups multiply out of it with wgmma and
// run the epilogue on their registers. Blocks of a cluster run in step over the same cluster tiles,
// including those that reach beyond the output, so that multicast always finds its receivers.
namespace fusedops::sm90 {

// Where a block stands in its cluster: tile (m, n) of the cluster's, and which part of K.
template <class Config>
struct ClusterPlace {
  static constexpr int kBlocksPerPart = Config::kClusterM * Config::kClusterN;

  uint32_t rank = Config::kClusterSize == 1 ? 0 : block_rank_in_cluster();
  uint32_t part = rank / kBlocksPerPart;
  uint32_t m = rank % Config::kClusterM;
  uint32_t n = rank / Config::kClusterM % Config::kClusterN;

  static constexpr bool kMulticastsA = Config::kClusterN > 1;
  static constexpr bool kMulticastsB = Config::kClusterM > 1;
  // A stage is written by every block that shares this one's rows or columns.
  static constexpr int kWriters = Config::kClusterM + Config::kClusterN - 1;

  // Those with this block's rows, and those with its columns, in the same part of K.
  __device__ __forceinline__ uint16_t blocks_in_row() const {
    uint32_t mask = 0;
#pragma unroll
    for (int column = 0; column < Config::kClusterN; ++column) {
      mask |= 1u << (m + column * Config::kClusterM);
    }
    return mask << (part * kBlocksPerPart);
  }

  __device__ __forceinline__ uint16_t blocks_in_column() const {
    return ((1u << Config::kClusterM) - 1) << (n * Config::kClusterM + part * kBlocksPerPart);
  }

  __device__ __forceinline__ uint32_t block_of_part(uint32_t other) const {
    return other * kBlocksPerPart + rank % kBlocksPerPart;
  }
};

// The part of the K loop this block does.
struct KRange {
  int begin, end;
};

template <class Config>
__device__ __forceinline__ KRange k_range(int k_tiles, int64_t part) {
  if constexpr (Config::kSplitK == 1) return {0, k_tiles};
  return {static_cast<int>(part * k_tiles / Config::kSplitK),
          static_cast<int>((part + 1) * k_tiles / Config::kSplitK)};
}

// The tiles of one block, one after the other.
template <class Config>
class TileWalk {
 public:
  __device__ __forceinline__ TileWalk(const TileOrder& order, const ClusterPlace<Config>& place,
                                      int skipped)
      : order_(order),
        place_(place),
        step_(gridDim.x / Config::kClusterSize),
        index_(blockIdx.x / Config::kClusterSize + skipped * step_) {
    locate();
  }

  __device__ __forceinline__ bool done() const { return index_ >= order_.count(); }

  __device__ __forceinline__ void advance(int tiles = 1) {
    index_ += tiles * step_;
    locate();
  }

  // The first row and column of the current tile.
  __device__ __forceinline__ int row() const { return position_.row; }
  __device__ __forceinline__ int column() const { return position_.column; }

 private:
  __device__ __forceinline__ void locate() {
    if (done()) return;
    const TilePosition cluster = order_.locate(index_);
    position_ = {
        (cluster.row * Config::kClusterM + static_cast<int>(place_.m)) * Config::kTileM,
        (cluster.column * Config::kClusterN + static_cast<int>(place_.n)) * Config::kTileN};
  }

  const TileOrder& order_;
  const ClusterPlace<Config>& place_;
  const int step_;
  int index_;
  TilePosition position_{};
};

template <class Config>
__device__ __forceinline__ void load_stage(SharedStorage<Config>& shared, uint32_t stage,
                                           const CUtensorMap& a_map, const CUtensorMap& b_map,
                                           const ClusterPlace<Config>& place, int row, int column,
                                           int k) {
  using Place = ClusterPlace<Config>;
  uint64_t& full = shared.full[stage];
  const int slice_a = place.n * Config::kBoxRowsA;
  const int slice_b = place.m * Config::kBoxRowsB;
#pragma unroll
  for (int box = 0; box < Config::kBoxes; ++box) {
    const int box_k = k + box * Config::kBoxColumns;
    void* const a = shared.a[stage][box][slice_a];
    if constexpr (Place::kMulticastsA) {
      load_box_multicast(a_map, full, a, box_k, row + slice_a, place.blocks_in_row());
    } else {
      load_box(a_map, full, a, box_k, row);
    }
    void* const b = shared.b[stage][box][slice_b];
    if constexpr (Place::kMulticastsB) {
      load_box_multicast(b_map, full, b, box_k, column + slice_b, place.blocks_in_column());
    } else {
      load_box(b_map, full, b, box_k, column);
    }
  }
}

// The first bytes of this block's first loads, asked for by all warps but the producer's: what
// takes longest about a cold start is the translation of addresses not used lately.
template <class Config, class Epilogue>
__device__ __forceinline__ void prefetch_first_rows(
    const Params<typename Config::Element, Epilogue>& params, const TileWalk<Config>& walk,
    const ClusterPlace<Config>& place, KRange range) {
  if (walk.done()) return;
  const int first_a = walk.row() + place.n * Config::kBoxRowsA;
  const int first_b = walk.column() + place.m * Config::kBoxRowsB;
  constexpr int kRows = Config::kBoxRowsA + Config::kBoxRowsB;
  for (int i = threadIdx.x - kWarp; i < kRows; i += Config::kThreads - kWarp) {
    const bool of_a = i < Config::kBoxRowsA;
    const auto& operand = of_a ? params.a : params.b;
    const int64_t row = of_a ? first_a + i : first_b + i - Config::kBoxRowsA;
    if (row < operand.rows) {
      prefetch_to_l2(operand.data + row * operand.stride + range.begin * int64_t{Config::kTileK});
    }
  }
}

// Run by one thread; where blocks split K, by its whole warp, since the blocks of the cluster then
// meet between tiles, and such a meeting waits for every thread that has not exited.
template <class Config>
__device__ __forceinline__ void produce(SharedStorage<Config>& shared, const CUtensorMap& a_map,
                                        const CUtensorMap& b_map, TileWalk<Config> walk,
                                        const ClusterPlace<Config>& place, KRange range) {
  RingPosition<Config::kStages> position;
  while (!walk.done()) {
    const int end = threadIdx.x == 0 ? range.end : range.begin;
    for (int k_tile = range.begin; k_tile < end; ++k_tile) {
      wait(shared.empty[position.stage], position.parity ^ 1);
      // Boxes that reach beyond a matrix are zero-filled and count in full.
      arrive_expecting(shared.full[position.stage], Config::kStageBytes);
      load_stage<Config>(shared, position.stage, a_map, b_map, place, walk.row(), walk.column(),
                         k_tile * Config::kTileK);
      position.advance();
    }
    walk.advance();
    if constexpr (Config::kSplitK > 1) {
      __syncwarp();
      if (!walk.done()) sync_cluster();
    }
  }
  if constexpr (ClusterPlace<Config>::kWriters > 1) {
    // Other blocks still signal this block's barriers: outlive them.
    for (int stage = 0; threadIdx.x == 0 && stage < Config::kStages; ++stage) {
      wait(shared.empty[position.stage], position.parity ^ 1);
      position.advance();
    }
  }
}

// Tells every block that wrote this stage that the calling warp no longer reads it.
template <class Config>
__device__ __forceinline__ void release_stage(SharedStorage<Config>& shared, uint32_t stage,
                                              const ClusterPlace<Config>& place) {
  using Place = ClusterPlace<Config>;
  const uint32_t lane = threadIdx.x % kWarp;
  if constexpr (Place::kWriters == 1) {
    if (lane == 0) arrive(shared.empty[stage]);
  } else {
    const bool same_row = lane % Config::kClusterM == place.m;
    const bool same_column = lane / Config::kClusterM == place.n;
    if (lane < Place::kBlocksPerPart && (same_row || same_column)) {
      arrive_in_block(shared.empty[stage], lane + place.part * Place::kBlocksPerPart);
    }
  }
}

// accumulators (+)= one stage of products, asynchronously.
template <class Config>
__device__ __forceinline__ void multiply_stage(
    const SharedStorage<Config>& shared, uint32_t stage, int first_row,
    float (&accumulators)[Config::kBlocksM][Config::kTileN / 2], bool accumulate) {
  constexpr int kStepsPerBox = kSwizzleBytes / kWgmmaBytesK;
  pin_registers(accumulators);
  fence_wgmma();
#pragma unroll
  for (int box = 0; box < Config::kBoxes; ++box) {
    const uint64_t a = wgmma_descriptor(shared.a[stage][box][first_row]);
    const uint64_t b = wgmma_descriptor(shared.b[stage][box]);
    constexpr uint64_t kDescriptorStepM = kWgmmaM * kSwizzleBytes >> 4;
#pragma unroll
    for (int step = 0; step < kStepsPerBox; ++step) {
#pragma unroll
      for (int block = 0; block < Config::kBlocksM; ++block) {
        wgmma<typename Config::Element, Config::kTileN>(
            a + block * kDescriptorStepM + step * kDescriptorStepK, b + step * kDescriptorStepK,
            accumulators[block], accumulate || box > 0 || step > 0);
      }
    }
  }
  commit_wgmma();
}

// Issues the products of one tile. On return those of the last stage are still in flight and
// `position` is that stage's successor; the stage is not yet released. Before stage `pause`, where
// it is one of the tile's, everything is finished and `wait_turn` called.
template <class Config, class WaitTurn>
__device__ __forceinline__ uint32_t multiply(SharedStorage<Config>& shared,
                                             const ClusterPlace<Config>& place,
                                             RingPosition<Config::kStages>& position, int k_tiles,
                                             int first_row, Accumulators<Config>& accumulators,
                                             int pause, WaitTurn wait_turn) {
  uint32_t in_flight = position.stage;
  for (int k_tile = 0; k_tile < k_tiles; ++k_tile) {
    bool released = k_tile == 0;
    if constexpr (Config::kOneAfterTheOther) {
      if (k_tile == pause) {
        if (!released) {
          wait_wgmma<0>();
          release_stage<Config>(shared, in_flight, place);
          released = true;
        }
        wait_turn();
      }
    }
    wait(shared.full[position.stage], position.parity);
    multiply_stage<Config>(shared, position.stage, first_row, accumulators, k_tile > 0);
    if (!released) {
      wait_wgmma<1>();
      release_stage<Config>(shared, in_flight, place);
    }
    in_flight = position.stage;
    position.advance();
  }
  return in_flight;
}

template <class Config, class Epilogue>
__device__ __forceinline__ void consume(SharedStorage<Config>& shared, const CUtensorMap& out_map,
                                        const Params<typename Config::Element, Epilogue>& params,
                                        TileWalk<Config> walk, const ClusterPlace<Config>& place,
                                        KRange range, int consumer) {
  constexpr int kStride = Config::kPingpong ? 2 : 1;
  const int first_row = Config::kPingpong ? 0 : consumer * Config::kBlocksM * kWgmmaM;
  const int first_column = place.part * Config::kShareColumns;
  const int k_tiles = range.end - range.begin;
  // With fewer stages than the ring has, the first warpgroup could be more than one tile ahead of
  // the second, and a barrier's parity tells no more than that.
  const bool in_turn = Config::kOneAfterTheOther && k_tiles >= Config::kStages;
  Output<Config, Epilogue> output(params, out_map, shared, consumer);
  RingPosition<Config::kStages> position;
  if constexpr (Config::kPingpong) position.skip(consumer * k_tiles);

  if (!walk.done()) output.fetch_bias(walk.row() + first_row, walk.column() + first_column);
  for (uint32_t parity = 0; !walk.done(); parity ^= 1) {
    // The first warpgroup's first turn comes with the fresh barrier.
    if constexpr (Config::kPingpong) wait(shared.turn[consumer], parity ^ (consumer == 0));
    Accumulators<Config> accumulators;
    const uint32_t in_flight =
        multiply<Config>(shared, place, position, k_tiles, first_row, accumulators,
                         in_turn && consumer == 1 ? k_tiles - Config::kStages : -1,
                         [&] { wait(shared.turn[1], parity); });
    if (in_turn && consumer == 0 && threadIdx.x % kWarp == 0) arrive(shared.turn[1]);
    if constexpr (Config::kPingpong) {
      if (threadIdx.x % kWarp == 0) arrive(shared.turn[consumer ^ 1]);
      position.skip(k_tiles);  // the other warpgroup's tile
    }

    // All that the next tile needs to know, while the last products are in flight.
    const int row = walk.row() + first_row;
    const int column = walk.column() + first_column;
    output.publish_bias();
    walk.advance(kStride);
    if (!walk.done()) output.fetch_bias(walk.row() + first_row, walk.column() + first_column);
    wait_wgmma<0>();
    pin_registers(accumulators);
    release_stage<Config>(shared, in_flight, place);

    if constexpr (Config::kSplitK > 1) {
      float sums[Config::kBlocksM][Config::kShareColumns / 2];
      add_parts<Config>(
          shared, consumer, threadIdx.x % kWarpgroup, place.part,
          [&](uint32_t part) { return place.block_of_part(part); }, parity, accumulators, sums);
      if (!walk.done()) sync_cluster();  // the next tile's parts may come
      output.store(sums, row, column);
    } else {
      output.store(accumulators, row, column);
    }
  }
  output.finish();
}

template <class Config>
__device__ __forceinline__ void init_barriers(SharedStorage<Config>& shared) {
  constexpr int kWarps = kWarpgroup / kWarp;
  constexpr int kReaders = Config::kConsumersPerTile * kWarps * ClusterPlace<Config>::kWriters;
  for (int stage = 0; stage < Config::kStages; ++stage) {
    init_barrier(shared.full[stage], 1);
    init_barrier(shared.empty[stage], kReaders);
  }
  for (uint64_t& turn : shared.turn) init_barrier(turn, kWarps);
  for (uint64_t& received : shared.received) init_barrier(received, 1);
  fence_barrier_init();
}

template <class Config, class Epilogue>
__device__ __forceinline__ void warp_specialized_gemm(
    const CUtensorMap& a_map, const CUtensorMap& b_map, const CUtensorMap& out_map,
    const Params<typename Config::Element, Epilogue>& params) {
  extern __shared__ __align__(kSwizzleAtomBytes) uint8_t shared_memory[];
  auto& shared = *reinterpret_cast<SharedStorage<Config>*>(shared_memory);

  const int warp = __shfl_sync(0xFFFFFFFF, threadIdx.x / kWarp, 0);
  const int warpgroup = warp / kWarpsPerWarpgroup;
  const ClusterPlace<Config> place;
  const KRange range = k_range<Config>(params.k_tiles, place.part);

  // The producer's warp does nothing before its first load but what that needs.
  if (warp == 0) {
    if (threadIdx.x == 0) init_barriers<Config>(shared);
    __syncwarp();
  }
  if constexpr (Config::kClusterSize > 1) {
    arrive_at_cluster_unordered();
  } else if (warp == 0) {
    arrive_at_block<Config::kThreads>();
  }
  const TileWalk<Config> walk(params.order, place, Config::kPingpong && warpgroup == 2);
  if (warp > 0) {
    if (threadIdx.x == kWarp) {
      prefetch_descriptor(a_map);
      prefetch_descriptor(b_map);
      if (params.store_by_tma) prefetch_descriptor(out_map);
    }
    prefetch_first_rows<Config>(params, walk, place, range);
    __syncwarp();
    if constexpr (Config::kClusterSize == 1) sync_block<Config::kThreads>();
  }
  if constexpr (Config::kClusterSize > 1) wait_for_cluster();

  if (warpgroup == 0) {
    if constexpr (Config::kMovesRegisters) shrink_registers<Config::kProducerRegisters>();
    constexpr int kProducers = Config::kSplitK > 1 ? kWarp : 1;
    if (threadIdx.x < kProducers) {
      produce<Config>(shared, a_map, b_map, walk, place, range);
    }
  } else {
    if constexpr (Config::kMovesRegisters) grow_registers<Config::kConsumerRegisters>();
    consume<Config>(shared, out_map, params, walk, place, range, warpgroup - 1);
  }
}

}  // namespace fusedops::sm90
