#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cuda/sm90_wgmma.cuh"

namespace fusedops::sm90 {

constexpr int kMaxSharedMemory = 227 << 10;  // what sm_90 gives one block

template <int kM_, int kN_, int kK_>
struct Tile {
  static constexpr int kM = kM_, kN = kN_, kK = kK_;
};

// Blocks that work together. kM x kN of them, on neighbouring tiles, load each operand once and
// share it by multicast. kSplitK such groups share the same tiles, take a part of K each, and add
// up through distributed shared memory, always in the same order.
template <int kM_, int kN_, int kSplitK_>
struct Cluster {
  static constexpr int kM = kM_, kN = kN_, kSplitK = kSplitK_;
  static_assert(kM * kN * kSplitK <= 8, "the largest portable cluster");
};

enum class Schedule {
  cooperative,  // the consumer warpgroups share each tile
  pingpong,     // they take turns: one multiplies while the other stores
  transposed,   // cooperative, on the transpose of the output
};

template <class Element_, Schedule kSchedule_, class Tile_, int kStages_, class Cluster_>
struct Config {
  using Element = Element_;
  static constexpr Schedule kSchedule = kSchedule_;
  static constexpr bool kPingpong = kSchedule == Schedule::pingpong;

  // The block multiplies A * B^T: x * weight^T, or for the transpose of the output weight * x^T.
  // Tiles of accumulators have rows in steps of 64 and columns in steps of 8, so that the transpose
  // wastes less where x has few rows more than whole tiles. Tile and Cluster speak of the output;
  // from here on M is along the rows of A and N along those of B.
  static constexpr bool kTransposed = kSchedule == Schedule::transposed;
  static constexpr int kTileM = kTransposed ? Tile_::kN : Tile_::kM;
  static constexpr int kTileN = kTransposed ? Tile_::kM : Tile_::kN;
  static constexpr int kTileK = Tile_::kK;
  static constexpr int kStages = kStages_;
  static constexpr int kClusterM = kTransposed ? Cluster_::kN : Cluster_::kM;
  static constexpr int kClusterN = kTransposed ? Cluster_::kM : Cluster_::kN;
  static constexpr int kSplitK = Cluster_::kSplitK;
  static constexpr int kClusterSize = kClusterM * kClusterN * kSplitK;

  static constexpr int kConsumers = kPingpong ? 2 : std::min(2, kTileM / kWgmmaM);
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
  static constexpr int kConsumersPerTile = kPingpong ? 1 : kConsumers;
  // A consumer warpgroup's share of the tile: kBlocksM wgmma blocks of 64 x kTileN.
  static constexpr int kBlocksM = kTileM / kWgmmaM / kConsumersPerTile;

  // setmaxnreg: 128 x 24 + 256 x 240 registers are the 384 x 168 the block starts with. With one
  // consumer warpgroup there are enough without.
  static constexpr bool kMovesRegisters = kConsumers == 2;
  static constexpr int kProducerRegisters = 24;
  static constexpr int kConsumerRegisters = 240;

  // TMA boxes are one swizzle row (64 elements of 16 bits, 32 of float32) wide.
  static constexpr int kBoxColumns = kSwizzleBytes / static_cast<int>(sizeof(Element));
  static constexpr int kBoxes = kTileK / kBoxColumns;
  static constexpr int kBoxRowsA = kTileM / kClusterN;
  static constexpr int kBoxRowsB = kTileN / kClusterM;
  static constexpr uint32_t kStageBytes = (kTileM + kTileN) * kTileK * sizeof(Element);

  // Of a tile this block multiplies all columns, and stores its share.
  static constexpr int kShareColumns = kTileN / kSplitK;

  static constexpr int kAccumulators = kBlocksM * kTileN / 2;  // a thread

  // Two cooperative warpgroups multiply the last kStages stages of a tile one after the other. The
  // first one's epilogue then hides behind the second's products, and the second's behind the
  // first's of the next tile, which are as far ahead as the ring is long. For large tiles: small
  // ones wait for data, and the second could do nothing while it comes.
  static constexpr bool kOneAfterTheOther = !kPingpong && kConsumers == 2 && kSplitK == 1 &&
                                            kAccumulators > 96 && sizeof(Element) == 2;

  // Every warp stores its own 16 rows of accumulators, in pieces, through its own staging buffers.
  // The outputs of a piece are all in registers at once, beside the accumulators; the last piece of
  // a row may be narrower. TMA stores a piece in boxes.
  static constexpr int kWarpRows = kWgmmaM / kWarpsPerWarpgroup;
  static constexpr int kStagingBuffers = kSplitK > 1 ? 1 : 2;
  static constexpr bool fits_beside_the_ring(int piece_width) {
    const int piece = kWarpRows * piece_width * static_cast<int>(sizeof(Element));
    const int staging = kConsumers * kWarpsPerWarpgroup * kStagingBuffers * piece;
    constexpr int kForTheRest = 3 << 10;
    return kStages * static_cast<int>(kStageBytes) + staging + kForTheRest <= kMaxSharedMemory;
  }
  static constexpr bool kNarrowPieces = kAccumulators > 128 || kSplitK > 1 || sizeof(Element) == 4;
  static constexpr int kWidestPiece = kAccumulators > 160                          ? 16
                                      : kNarrowPieces || !fits_beside_the_ring(64) ? 32
                                                                                   : 64;
  static constexpr int kPieceWidth = std::min(kWidestPiece, kShareColumns);
  static constexpr int kBoxWidth = kShareColumns % 64 == 0   ? std::min(64, kPieceWidth)
                                   : kShareColumns % 32 == 0 ? std::min(32, kPieceWidth)
                                                             : 16;
  // A box as it lies in the output.
  static constexpr int kOutBoxRows = kTransposed ? kBoxWidth : kWarpRows;
  static constexpr int kOutBoxColumns = kTransposed ? kWarpRows : kBoxWidth;
  // A warpgroup's biases of a tile: one for each of its accumulators' columns, or rows.
  static constexpr int kBiases = kTransposed ? kBlocksM * kWgmmaM : kShareColumns;

  static_assert(sizeof(Element) == 2 || (sizeof(Element) == 4 && !kTransposed));
  static_assert(kTileM % (kWgmmaM * kConsumersPerTile) == 0);
  static_assert(kShareColumns % kBoxWidth == 0 && kPieceWidth % kBoxWidth == 0);
  static_assert(kTileK % kBoxColumns == 0);
  static_assert(kBoxRowsA % 8 == 0 && kBoxRowsB % 8 == 0, "boxes hold whole swizzle atoms");
  static_assert(kBoxRowsA <= 256 && kBoxRowsB <= 256, "the largest TMA box");
  static_assert(kSplitK == 1 || !kPingpong);
};

// Where the other blocks of a split K leave their parts of this block's share: four neighbouring
// accumulators of a thread at a time, thread-minor.
template <class Config>
struct PartialSums {
  float4 part[Config::kSplitK - 1][Config::kConsumers][Config::kBlocksM][Config::kShareColumns / 8]
             [kWarpgroup];
};

template <int kFirst, int kEnd, class Body>
__device__ __forceinline__ void for_each(Body body) {
  if constexpr (kFirst < kEnd) {
    body(std::integral_constant<int, kFirst>{});
    for_each<kFirst + 1, kEnd>(body);
  }
}

struct Empty {};

template <class Config>
struct alignas(kSwizzleAtomBytes) SharedStorage {
  using Element = typename Config::Element;

  Element a[Config::kStages][Config::kBoxes][Config::kTileM][Config::kBoxColumns];
  Element b[Config::kStages][Config::kBoxes][Config::kTileN][Config::kBoxColumns];
  Element staging[Config::kConsumers][kWarpsPerWarpgroup][Config::kStagingBuffers]
                 [Config::kPieceWidth / Config::kBoxWidth][Config::kOutBoxRows]
                 [Config::kOutBoxColumns];
  std::conditional_t<(Config::kSplitK > 1), PartialSums<Config>, Empty> partial;
  alignas(16) float bias[Config::kConsumers][Config::kBiases];

  uint64_t full[Config::kStages];   // TMA has written the stage
  uint64_t empty[Config::kStages];  // every reader, in every block it was sent to, is done with it
  uint64_t turn[2];                 // this warpgroup may multiply
  uint64_t received[2];             // the other parts of this warpgroup's sums have come
};

// Which stage of the ring comes next, and the parity of its current round.
template <int kStages>
struct RingPosition {
  uint32_t stage = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }

  __device__ __forceinline__ void skip(uint32_t steps) {
    stage += steps;
    parity ^= stage / kStages & 1;
    stage %= kStages;
  }
};

}  // namespace fusedops::sm90
