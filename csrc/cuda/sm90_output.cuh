#pragma once

#include "cuda/bias.cuh"
#include "cuda/sm90_config.cuh"
#include "cuda/sm90_tile_order.cuh"

namespace fusedops::sm90 {

template <class Element, class Epilogue>
struct Params {
  Bias<Element> bias;
  Epilogue epilogue;
  Element* out;
  int m, n;
  int k_tiles;
  TileOrder order;  // of cluster tiles
  bool store_by_tma;
};

__device__ __forceinline__ uint32_t pack(__nv_bfloat16, float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

__device__ __forceinline__ uint32_t pack(__half, float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

// Turns one consumer warpgroup's accumulators into stored outputs.
template <class Config, class Epilogue>
class Output {
 public:
  using Element = typename Config::Element;
  using Accumulators = float[Config::kBlocksM][Config::kTileN / 2];

  __device__ __forceinline__ Output(const Params<Element, Epilogue>& params,
                                    const CUtensorMap& out_map, SharedStorage<Config>& shared,
                                    int consumer)
      : params_(params),
        out_map_(out_map),
        shared_(shared),
        consumer_(consumer),
        thread_(threadIdx.x % kWarpgroup),
        lane_(threadIdx.x % kWarp),
        warp_(thread_ / kWarp) {}

  // Each column's bias is read once a tile, while the last products are still in flight. The caller
  // has every thread pass a warpgroup barrier between a tile's last read and the next tile's bias.
  __device__ __forceinline__ void load_bias(int first_column) {
    for (int column = thread_; column < Config::kTileN; column += kWarpgroup) {
      const bool inside = first_column + column < params_.n;
      shared_.bias[consumer_][column] = inside ? params_.bias[first_column + column] : 0.0f;
    }
  }

  __device__ __forceinline__ void store(const Accumulators& accumulators, int row, int column) {
    if (params_.store_by_tma) {
      store_through_shared(accumulators, row, column);
    } else {
      store_directly(accumulators, row, column);
    }
  }

  // Adds this block's share of the columns over the cluster's blocks, and stores it.
  __device__ __forceinline__ void reduce_and_store(const Accumulators& accumulators, int row,
                                                   int column, uint32_t rank) {
    auto& partial = shared_.scratch.partial[consumer_];
#pragma unroll
    for (int block = 0; block < Config::kBlocksM; ++block) {
#pragma unroll
      for (int i = 0; i < Config::kTileN / 2; ++i) {
        partial[block][i][thread_] = accumulators[block][i];
      }
    }
    sync_cluster();

    constexpr int kShare = Config::kTileN / Config::kSplitK;
    const int first = rank * kShare;
#pragma unroll
    for (int block = 0; block < Config::kBlocksM; ++block) {
#pragma unroll
      for (int group = 0; group < kShare / 8; ++group) {
        float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int peer = 0; peer < Config::kSplitK; ++peer) {
          const uint32_t base =
              address_in_block(&partial[block][first / 2 + 4 * group][thread_], peer);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            sums[i] += load_cluster_shared(base + i * kWarpgroup * sizeof(float));
          }
        }
        store_group(sums, row + block * kWgmmaM, column, first + 8 * group);
      }
    }
    sync_cluster();
  }

  // Shared memory may go away once pending stores have read it.
  __device__ __forceinline__ void finish() {
    if (thread_ == 0) wait_until_stores_have_read<0>();
  }

 private:
  __device__ __forceinline__ void sync() { sync_warpgroup(1 + consumer_); }

  // The four outputs of one thread in a group of eight columns: two rows of two neighbours.
  __device__ __forceinline__ void evaluate(const float (&sums)[4], int column_in_tile,
                                           uint32_t& upper, uint32_t& lower) const {
    const float2 bias =
        *reinterpret_cast<const float2*>(&shared_.bias[consumer_][column_in_tile + lane_ % 4 * 2]);
    upper = pack(Element{}, params_.epilogue(sums[0], bias.x), params_.epilogue(sums[1], bias.y));
    lower = pack(Element{}, params_.epilogue(sums[2], bias.x), params_.epilogue(sums[3], bias.y));
  }

  __device__ __forceinline__ void store_through_shared(const Accumulators& accumulators, int row,
                                                       int column) {
    constexpr int kGroups = Config::kPieceColumns / 8;
    constexpr int kPieces = Config::kTileN / Config::kPieceColumns;
    // This lane's row address for stmatrix, in the TMA swizzle.
    const int piece_row = warp_ * 16 + lane_ % 16;
    const int group_of_lane = lane_ / 16;
#pragma unroll
    for (int block = 0; block < Config::kBlocksM; ++block) {
      const int first_row = row + block * kWgmmaM;
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        const int first_column = column + piece * Config::kPieceColumns;
        if (first_row >= params_.m || first_column >= params_.n) continue;
        auto& buffer = shared_.scratch.staging[consumer_][staging_];
        staging_ = (staging_ + 1) % Config::kStagingBuffers;
        if (thread_ == 0) wait_until_stores_have_read<Config::kStagingBuffers - 1>();
        sync();
#pragma unroll
        for (int group = 0; group < kGroups; group += 2) {
          const int index = 4 * (piece * kGroups + group);
          uint32_t matrices[4];
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const float (&all)[Config::kTileN / 2] = accumulators[block];
            const int i = index + 4 * half;
            const float sums[4] = {all[i], all[i + 1], all[i + 2], all[i + 3]};
            evaluate(sums, (piece * kGroups + group + half) * 8, matrices[2 * half],
                     matrices[2 * half + 1]);
          }
          const int chunk = (group + group_of_lane) ^ (piece_row % 8);
          store_matrices(&buffer[piece_row][chunk * 8], matrices);
        }
        fence_shared_for_tma();
        sync();
        if (thread_ == 0) {
          store_box(out_map_, buffer, first_column, first_row);
          commit_stores();
        }
      }
    }
  }

  __device__ __forceinline__ void store_directly(const Accumulators& accumulators, int row,
                                                 int column) {
    sync();
#pragma unroll
    for (int block = 0; block < Config::kBlocksM; ++block) {
#pragma unroll
      for (int group = 0; group < Config::kTileN / 8; ++group) {
        const float (&all)[Config::kTileN / 2] = accumulators[block];
        const float sums[4] = {all[4 * group], all[4 * group + 1], all[4 * group + 2],
                               all[4 * group + 3]};
        store_group(sums, row + block * kWgmmaM, column, 8 * group);
      }
    }
    sync();
  }

  __device__ __forceinline__ void store_group(const float (&sums)[4], int first_row,
                                              int tile_column, int column_in_tile) {
    uint32_t pairs[2];
    evaluate(sums, column_in_tile, pairs[0], pairs[1]);
    const int column = tile_column + column_in_tile + lane_ % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + warp_ * 16 + lane_ / 4 + 8 * half;
      if (row >= params_.m || column >= params_.n) continue;
      Element* const target = params_.out + static_cast<int64_t>(row) * params_.n + column;
      if (params_.n % 2 == 0) {
        *reinterpret_cast<uint32_t*>(target) = pairs[half];
      } else {
        const auto* const elements = reinterpret_cast<const Element*>(&pairs[half]);
        target[0] = elements[0];
        if (column + 1 < params_.n) target[1] = elements[1];
      }
    }
  }

  const Params<Element, Epilogue>& params_;
  const CUtensorMap& out_map_;
  SharedStorage<Config>& shared_;
  const int consumer_, thread_, lane_, warp_;
  int staging_ = 0;
};

}  // namespace fusedops::sm90
