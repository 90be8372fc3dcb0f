#pragma once

#include "cuda/bias.cuh"
#include "cuda/sm90_fp32_pieces.cuh"
#include "cuda/sm90_primitives.cuh"
#include "cuda/sm90_tile_order.cuh"
#include "cuda/sm90_wgmma.cuh"

// float32 products on tensor cores: every number becomes a sum of 16-bit pieces.
//
// A persistent block of four warpgroups, each of which refills with TMA what it has read:
//   two multipliers  hold 64 rows of the tile each: they split x in registers, multiply it with
//                    the split weight, and add each chunk's sum to a total in float32;
//   two splitters    turn the weight's chunk into pieces in shared memory, half of K each.
// A tensor core truncates what it adds, so a chain of products may only be as long as a chunk: the
// totals are added in IEEE float32.
namespace fusedops::sm90_fp32 {

using namespace fusedops::sm90;

constexpr int kTileM = 128, kTileN = 128, kTileK = 64;
constexpr int kMultipliers = 2, kSplitters = 2;
constexpr int kThreads = (kMultipliers + kSplitters) * kWarpgroup;
constexpr int kMultiplierRegisters = 200, kSplitterRegisters = 56;
constexpr int kRows = kTileM / kMultipliers;    // of x, a multiplier
constexpr int kBoxColumns = kSwizzleBytes / 4;  // float32
constexpr int kBoxes = kTileK / kBoxColumns;
constexpr int kRawStages = 2, kSplitStages = 2;
constexpr int kSteps = kTileK / kWgmmaK;
static_assert(kRows == kWgmmaM && kBoxes == kSplitters);

template <class Scheme>
struct alignas(kSwizzleAtomBytes) SharedStorage {
  float x[kMultipliers][kRawStages][kBoxes][kRows][kBoxColumns];
  float weight[kSplitters][kRawStages][kTileN][kBoxColumns];
  uint16_t pieces[kSplitStages][Scheme::kPieces][kTileN][kTileK];

  // The pieces' memory, once they are done with, for one multiplier's totals.
  using Scratch = float4[16][kWarpgroup];
  __device__ __forceinline__ Scratch& scratch(int multiplier) {
    static_assert(sizeof(pieces) >= kMultipliers * sizeof(Scratch));
    return reinterpret_cast<Scratch*>(pieces)[multiplier];
  }

  uint64_t x_full[kMultipliers][kRawStages];
  uint64_t weight_full[kSplitters][kRawStages];
  uint64_t pieces_full[kSplitStages];
  uint64_t pieces_empty[kSplitStages];
};

template <class Epilogue>
struct Params {
  const float *x, *weight;  // for the sums that need another way
  int64_t x_stride, weight_stride;
  Bias<float> bias;
  Epilogue epilogue;
  float* out;
  int m, n, k;
  int k_tiles;
  TileOrder order;
};

// The tiles of one block, and the chunks of K that it does of each: all of them, or its share where
// a cluster splits K.
struct Share {
  TileOrder order;
  int first_tile, tile_step;
  int first_k, k_tiles;

  template <int kSplitK>
  __device__ __forceinline__ static Share of_block(const TileOrder& order, int k_tiles) {
    const int rank = blockIdx.x % kSplitK;
    const auto begin = [&](int part) {
      return static_cast<int>(int64_t{part} * k_tiles / kSplitK);
    };
    return {order, static_cast<int>(blockIdx.x) / kSplitK, static_cast<int>(gridDim.x) / kSplitK,
            begin(rank), begin(rank + 1) - begin(rank)};
  }
};

// Runs through the chunks of a share, in the order in which everyone in the block does.
class Chunks {
 public:
  __device__ __forceinline__ explicit Chunks(const Share& share)
      : share_(share), tile_(share.first_tile) {
    locate();
  }

  __device__ __forceinline__ bool done() const { return tile_ >= share_.order.count(); }
  __device__ __forceinline__ void advance() {
    if (++k_tile_ < share_.k_tiles) return;
    k_tile_ = 0;
    tile_ += share_.tile_step;
    locate();
  }
  __device__ __forceinline__ int row() const { return row_; }
  __device__ __forceinline__ int column() const { return column_; }
  __device__ __forceinline__ int k() const { return (share_.first_k + k_tile_) * kTileK; }

 private:
  __device__ __forceinline__ void locate() {
    if (done()) return;
    const TilePosition tile = share_.order.locate(tile_);
    row_ = tile.row * kTileM;
    column_ = tile.column * kTileN;
  }

  const Share& share_;
  int tile_;
  int k_tile_ = 0, row_ = 0, column_ = 0;
};

template <int kStages>
struct Ring {
  uint32_t stage = 0, parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

__device__ __forceinline__ float4 chunk_of_row(const float (*box)[kBoxColumns], int row,
                                               int chunk) {
  return *reinterpret_cast<const float4*>(&box[row][(chunk ^ row % 8) * 4]);
}

// ---- splitters ---------------------------------------------------------------------------------

template <class Scheme>
__device__ __forceinline__ void load_weight(SharedStorage<Scheme>& shared, const CUtensorMap& map,
                                            const Chunks& next, int splitter, uint32_t stage) {
  uint64_t& full = shared.weight_full[splitter][stage];
  arrive_expecting(full, sizeof(shared.weight[splitter][stage]));
  load_box(map, full, shared.weight[splitter][stage], next.k() + splitter * kBoxColumns,
           next.column());
}

// One thread splits one row of its half of the chunk. Within 16 elements along K the order is that
// in which the multipliers have x: thread c of a quad has 4c .. 4c+3 where wgmma expects 2c, 2c+1,
// 2c+8 and 2c+9.
template <class Scheme>
__device__ __forceinline__ void split_weight(SharedStorage<Scheme>& shared, const CUtensorMap& map,
                                             const Share& share, int splitter) {
  const int thread = threadIdx.x % kWarpgroup;
  Chunks next(share);
  if (thread == 0) {
    for (uint32_t stage = 0; stage < kRawStages && !next.done(); ++stage) {
      load_weight(shared, map, next, splitter, stage);
      next.advance();
    }
  }
  Ring<kRawStages> raw;
  Ring<kSplitStages> split;
  for (Chunks chunks(share); !chunks.done(); chunks.advance()) {
    wait(shared.weight_full[splitter][raw.stage], raw.parity);
    wait(shared.pieces_empty[split.stage], split.parity ^ 1);
    constexpr int kHalfSteps = kSteps / kSplitters;
#pragma unroll
    for (int step = 0; step < kHalfSteps; ++step) {
      uint32_t pieces[8][Scheme::kPieces];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const float4 four = chunk_of_row(shared.weight[splitter][raw.stage], thread, step * 4 + c);
        Scheme::split(four.x, four.y, pieces[c]);
        Scheme::split(four.z, four.w, pieces[c + 4]);
      }
#pragma unroll
      for (int piece = 0; piece < Scheme::kPieces; ++piece) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int chunk = (splitter * kHalfSteps + step) * 2 + half;
          *reinterpret_cast<uint4*>(
              &shared.pieces[split.stage][piece][thread][(chunk ^ thread % 8) * 8]) =
              make_uint4(pieces[half * 4][piece], pieces[half * 4 + 1][piece],
                         pieces[half * 4 + 2][piece], pieces[half * 4 + 3][piece]);
        }
      }
    }
    fence_shared_for_tma();
    __syncwarp();
    if (thread % kWarp == 0) arrive(shared.pieces_full[split.stage]);
    sync_warpgroup(1 + kMultipliers + splitter);
    if (thread == 0 && !next.done()) {
      load_weight(shared, map, next, splitter, raw.stage);
      next.advance();
    }
    raw.advance();
    split.advance();
  }
}

// ---- multipliers -------------------------------------------------------------------------------

// Where a thread's accumulators lie in the multiplier's 64 x 128: elements 4j .. 4j+3 are the
// columns 8j + column and the next of row `row`, then of `row` + 8. wgmma's rows 2i and 2i+1 (mod
// 8) are the tile's rows i and i+4, so that a quarter of a warp reads x from distinct banks.
struct Place {
  int row, column;

  __device__ __forceinline__ explicit Place(int lane)
      : row(lane / 8 + lane / 4 % 2 * 4), column(lane % 4 * 2) {}
};

template <class Scheme>
__device__ __forceinline__ void load_x(SharedStorage<Scheme>& shared, const CUtensorMap& map,
                                       const Chunks& next, int multiplier, uint32_t stage) {
  uint64_t& full = shared.x_full[multiplier][stage];
  arrive_expecting(full, sizeof(shared.x[multiplier][stage]));
#pragma unroll
  for (int box = 0; box < kBoxes; ++box) {
    load_box(map, full, shared.x[multiplier][stage][box], next.k() + box * kBoxColumns,
             next.row() + multiplier * kRows);
  }
}

template <class Scheme>
using Fragments = uint32_t[Scheme::kPieces][kSteps][4];

template <class Scheme>
__device__ __forceinline__ void split_x(const float (&boxes)[kBoxes][kRows][kBoxColumns],
                                        Fragments<Scheme>& fragments) {
  const int lane = threadIdx.x % kWarp;
  const int row = threadIdx.x % kWarpgroup / kWarp * 16 + Place(lane).row;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 four = chunk_of_row(boxes[step / 2], row + 8 * half, step % 2 * 4 + lane % 4);
      uint32_t pairs[2][Scheme::kPieces];
      Scheme::split(four.x, four.y, pairs[0]);
      Scheme::split(four.z, four.w, pairs[1]);
#pragma unroll
      for (int piece = 0; piece < Scheme::kPieces; ++piece) {
        fragments[piece][step][half] = pairs[0][piece];
        fragments[piece][step][half + 2] = pairs[1][piece];
      }
    }
  }
}

// One multiplier feeds the tensor cores while the other splits x and adds up. Named barriers: one a
// warpgroup comes first, then one a multiplier for its turn, then one for both.
constexpr int kFirstTurn = 1 + kMultipliers + kSplitters;

__device__ __forceinline__ void wait_turn(int multiplier) {
  asm volatile("bar.sync %0, %1;" ::"r"(kFirstTurn + multiplier), "n"(2 * kWarpgroup) : "memory");
}

__device__ __forceinline__ void give_turn(int multiplier) {
  const int other = multiplier ^ 1;
  asm volatile("bar.arrive %0, %1;" ::"r"(kFirstTurn + other), "n"(2 * kWarpgroup) : "memory");
}

// Both multipliers are past their last chunk.
__device__ __forceinline__ void wait_until_pieces_are_read() {
  asm volatile("bar.sync %0, %1;" ::"n"(kFirstTurn + 2), "n"(2 * kWarpgroup) : "memory");
}

// sums = the products of one chunk.
template <class Scheme>
__device__ __forceinline__ void multiply_chunk(
    const uint16_t (&pieces)[Scheme::kPieces][kTileN][kTileK], const Fragments<Scheme>& fragments,
    float (&sums)[1][64], int multiplier) {
  pin_registers(sums);
  fence_wgmma();
#pragma unroll
  for (int product = 0; product < Scheme::kProducts; ++product) {
    if (product == Scheme::kProducts - 1) commit_wgmma();
    const uint64_t weight = wgmma_descriptor(pieces[Scheme::piece_of_weight(product)]);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      multiply_pieces<Scheme>(fragments[Scheme::piece_of_x(product)][step],
                              weight + step * kDescriptorStepK, sums[0], product + step > 0);
    }
  }
  commit_wgmma();
  wait_wgmma<1>();
  give_turn(multiplier);
  wait_wgmma<0>();
  pin_registers(sums);
}

// The sum of one element in float64, by a warp. Nothing follows a NaN.
__device__ __forceinline__ double sum_in_double(const float* x, const float* weight, int k) {
  constexpr int kVectors = 4;
  constexpr int kStep = kVectors * 4 * kWarp;
  const int lane = threadIdx.x % kWarp;
  double sum = 0;
  for (int base = 0; base < k && !__any_sync(0xFFFFFFFF, sum != sum); base += kStep) {
#pragma unroll
    for (int vector = 0; vector < kVectors; ++vector) {
      const int first = base + (vector * kWarp + lane) * 4;
      float4 a{}, b{};
      if (first + 4 <= k) {
        a = *reinterpret_cast<const float4*>(x + first);
        b = *reinterpret_cast<const float4*>(weight + first);
      } else {
        if (first < k) a.x = x[first], b.x = weight[first];
        if (first + 1 < k) a.y = x[first + 1], b.y = weight[first + 1];
        if (first + 2 < k) a.z = x[first + 2], b.z = weight[first + 2];
      }
      sum += double(a.x) * double(b.x) + double(a.y) * double(b.y);
      sum += double(a.z) * double(b.z) + double(a.w) * double(b.w);
    }
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(0xFFFFFFFF, sum, offset);
  }
  return sum;
}

// Stores what is finite and returns one bit an element that is not.
template <class Scheme, int kSums, class Epilogue>
__device__ __forceinline__ uint64_t store(const Params<Epilogue>& params,
                                          const float (&totals)[kSums], int row, int column) {
  constexpr float kUnscale = 1.0f / Scheme::kScale / Scheme::kScale;
  uint64_t not_finite = 0;
#pragma unroll
  for (int group = 0; group < kSums / 4; ++group) {
    const int first = column + 8 * group;
    if (first >= params.n) continue;
    const bool both = first + 1 < params.n;
    const float bias[2] = {params.bias[first], both ? params.bias[first + 1] : 0.0f};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (row + 8 * half >= params.m) continue;
      float* const target = params.out + static_cast<int64_t>(row + 8 * half) * params.n + first;
      float y[2];
      bool good[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int index = 4 * group + 2 * half + i;
        good[i] = isfinite(totals[index]);
        y[i] = params.epilogue(totals[index] * kUnscale, bias[i]);
        if (!good[i] && (i == 0 || both)) not_finite |= uint64_t{1} << index;
      }
      if (params.n % 2 == 0 && good[0] && good[1]) {
        *reinterpret_cast<float2*>(target) = make_float2(y[0], y[1]);
      } else {
        if (good[0]) target[0] = y[0];
        if (good[1] && both) target[1] = y[1];
      }
    }
  }
  return not_finite;
}

// Infinities and numbers near overflow do not survive being split: such a sum comes out not finite,
// rightly or not, and is then done here.
template <class Epilogue>
__device__ __forceinline__ void store_not_finite(const Params<Epilogue>& params,
                                                 uint64_t not_finite, int warp_row, int column) {
  const int lane = threadIdx.x % kWarp;
  for (uint32_t lanes = __ballot_sync(0xFFFFFFFF, not_finite != 0); lanes != 0;
       lanes &= lanes - 1) {
    const int owner = __ffs(lanes) - 1;
    const Place place(owner);
    for (uint64_t bits = __shfl_sync(0xFFFFFFFF, not_finite, owner); bits != 0; bits &= bits - 1) {
      const int index = __ffsll(bits) - 1;
      const int64_t row = warp_row + place.row + index / 2 % 2 * 8;
      const int64_t at = column + place.column + index / 4 * 8 + index % 2;
      const double sum = sum_in_double(params.x + row * params.x_stride,
                                       params.weight + at * params.weight_stride, params.k);
      if (lane == 0) {
        params.out[row * params.n + at] = params.epilogue(static_cast<float>(sum), params.bias[at]);
      }
    }
  }
}

// Adds up the totals of the cluster's blocks, always in the same order; each block gets its share
// of the columns. The other multiplier must have left `scratch`.
template <int kSplitK>
__device__ __forceinline__ void add_over_cluster(float4 (&scratch)[16][kWarpgroup],
                                                 const float (&totals)[64],
                                                 float (&sums)[64 / kSplitK]) {
  const int thread = threadIdx.x % kWarpgroup;
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    scratch[i][thread] =
        make_float4(totals[4 * i], totals[4 * i + 1], totals[4 * i + 2], totals[4 * i + 3]);
  }
  sync_cluster();
  constexpr int kGroups = 16 / kSplitK;
  const int first = block_rank_in_cluster() * kGroups;
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
#pragma unroll
    for (int rank = 0; rank < kSplitK; ++rank) {
      const uint32_t address = address_in_block(&scratch[first + i][thread], rank);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float part = load_cluster_shared(address + 4 * j);
        sums[4 * i + j] = rank == 0 ? part : sums[4 * i + j] + part;
      }
    }
  }
  sync_cluster();
}

template <class Scheme, int kSplitK, class Epilogue>
__device__ __forceinline__ void multiply(SharedStorage<Scheme>& shared, const CUtensorMap& map,
                                         const Params<Epilogue>& params, const Share& share,
                                         int multiplier) {
  const int thread = threadIdx.x % kWarpgroup;
  Chunks next(share);
  if (thread == 0) {
    for (uint32_t stage = 0; stage < kRawStages && !next.done(); ++stage) {
      load_x(shared, map, next, multiplier, stage);
      next.advance();
    }
  }
  if (multiplier == 1) give_turn(multiplier);
  Ring<kRawStages> raw;
  Ring<kSplitStages> split;
  for (int tile = share.first_tile; tile < share.order.count(); tile += share.tile_step) {
    float totals[64] = {};
    for (int k_tile = 0; k_tile < share.k_tiles; ++k_tile) {
      Fragments<Scheme> fragments;
      wait(shared.x_full[multiplier][raw.stage], raw.parity);
      split_x<Scheme>(shared.x[multiplier][raw.stage], fragments);
      sync_warpgroup(1 + multiplier);
      if (thread == 0 && !next.done()) {
        load_x(shared, map, next, multiplier, raw.stage);
        next.advance();
      }
      raw.advance();

      wait(shared.pieces_full[split.stage], split.parity);
      wait_turn(multiplier);
      float sums[1][64];
      multiply_chunk<Scheme>(shared.pieces[split.stage], fragments, sums, multiplier);
      if (thread % kWarp == 0) arrive(shared.pieces_empty[split.stage]);
      split.advance();
#pragma unroll
      for (int i = 0; i < 64; ++i) totals[i] += sums[0][i];
    }
    const TilePosition position = share.order.locate(tile);
    const int row = position.row * kTileM + multiplier * kRows + thread / kWarp * 16;
    int column = position.column * kTileN;
    const Place place(thread % kWarp);
    uint64_t not_finite;
    if constexpr (kSplitK == 1) {
      not_finite = store<Scheme>(params, totals, row + place.row, column + place.column);
    } else {
      // This block's only tile: nothing more is written to the pieces.
      wait_until_pieces_are_read();
      float sums[64 / kSplitK];
      add_over_cluster<kSplitK>(shared.scratch(multiplier), totals, sums);
      column += block_rank_in_cluster() * (kTileN / kSplitK);
      not_finite = store<Scheme>(params, sums, row + place.row, column + place.column);
    }
    store_not_finite(params, not_finite, row, column);
  }
}

template <class Scheme, int kSplitK, class Epilogue>
__device__ __forceinline__ void split_gemm(const CUtensorMap& x_map, const CUtensorMap& weight_map,
                                           const Params<Epilogue>& params) {
  extern __shared__ __align__(kSwizzleAtomBytes) uint8_t shared_memory[];
  auto& shared = *reinterpret_cast<SharedStorage<Scheme>*>(shared_memory);
  if (threadIdx.x == 0) {
    prefetch_descriptor(x_map);
    prefetch_descriptor(weight_map);
    constexpr int kWarps = kWarpgroup / kWarp;
    for (int stage = 0; stage < kRawStages; ++stage) {
      for (auto& full : shared.x_full) init_barrier(full[stage], 1);
      for (auto& full : shared.weight_full) init_barrier(full[stage], 1);
    }
    for (int stage = 0; stage < kSplitStages; ++stage) {
      init_barrier(shared.pieces_full[stage], kSplitters * kWarps);
      init_barrier(shared.pieces_empty[stage], kMultipliers * kWarps);
    }
    fence_barrier_init();
  }
  __syncthreads();

  const int warpgroup = __shfl_sync(0xFFFFFFFF, threadIdx.x / kWarpgroup, 0);
  const Share share = Share::of_block<kSplitK>(params.order, params.k_tiles);
  if (warpgroup >= kMultipliers) {
    shrink_registers<kSplitterRegisters>();
    split_weight(shared, weight_map, share, warpgroup - kMultipliers);
  } else {
    grow_registers<kMultiplierRegisters>();
    multiply<Scheme, kSplitK>(shared, x_map, params, share, warpgroup);
  }
}

}  // namespace fusedops::sm90_fp32
