#pragma once

#include "cuda/bias.cuh"
#include "cuda/sm90_config.cuh"
#include "cuda/sm90_tile_order.cuh"

namespace fusedops::sm90 {

template <class Element>
struct Operand {
  const Element* data;
  int64_t stride;  // between rows
  int rows;
};

template <class Element, class Epilogue>
struct Params {
  Operand<Element> a, b;
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

// Turns one consumer warpgroup's sums into stored outputs. Past the bias every warp is on its own:
// it evaluates and stores 16 rows of each wgmma block, which are columns of the output if those are
// transposed.
template <class Config, class Epilogue>
class Output {
 public:
  using Element = typename Config::Element;
  static constexpr int kColumns = Config::kShareColumns;
  using Sums = float[Config::kBlocksM][kColumns / 2];

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

  // For the tile of sums whose first row and column these are. Before the tile's products, so that
  // the loads are long done when publish_bias needs them.
  __device__ __forceinline__ void fetch_bias(int row, int column) {
    const int first = Config::kTransposed ? row : column;
#pragma unroll
    for (int i = 0; i < kBiasesPerThread; ++i) {
      const int index = thread_ + i * kWarpgroup;
      const bool inside = index < Config::kBiases && first + index < params_.n;
      fetched_bias_[i] = inside ? params_.bias.bits(first + index) : 0;
    }
  }

  __device__ __forceinline__ void publish_bias() {
    sync_warpgroup(1 + consumer_);  // the last tile's has been read
#pragma unroll
    for (int i = 0; i < kBiasesPerThread; ++i) {
      asm volatile("" : "+r"(fetched_bias_[i]));  // not earlier
      const int index = thread_ + i * kWarpgroup;
      if (index < Config::kBiases) {
        shared_.bias[consumer_][index] = params_.bias.value(fetched_bias_[i]);
      }
    }
    sync_warpgroup(1 + consumer_);
  }

  __device__ __forceinline__ void store(const Sums& sums, int row, int column) {
    if (params_.store_by_tma) {
      store<true>(sums, row, column);
    } else {
      store<false>(sums, row, column);
    }
  }

  // Shared memory may go away once pending stores have read it.
  __device__ __forceinline__ void finish() {
    if (lane_ == 0) wait_until_stores_have_read<0>();
  }

 private:
  using Box = Element[Config::kOutBoxRows][Config::kOutBoxColumns];
  using Piece = Box[Config::kPieceWidth / Config::kBoxWidth];
  // Of sixteen columns a thread has four in each of two rows. It evaluates those four together; if
  // they are rows of the output, the two rows.
  static constexpr int kTogether = Config::kTransposed ? 2 : 4;
  using Step = float[8 / kTogether][kTogether];
  static constexpr int kChunk = 16 / sizeof(Element);  // outputs in 16 bytes
  static constexpr int kBiasesPerThread = (Config::kBiases + kWarpgroup - 1) / kWarpgroup;

  // The chunk of 16 bytes that TMA's swizzle for rows of this length has at `chunk` of `row`.
  static __device__ __forceinline__ int swizzled(int row, int chunk) {
    constexpr int kChunks = Config::kOutBoxColumns / kChunk;
    constexpr int kRowsPerSwizzleRow = 8 / kChunks;
    return chunk ^ (row / kRowsPerSwizzleRow % kChunks);
  }

  // Apart for each way to store, so that the usual one is free of branches.
  template <bool kByTma>
  __device__ __forceinline__ void store(const Sums& sums, int row, int column) {
#pragma unroll
    for (int block = 0; block < Config::kBlocksM; ++block) {
      const int first_row = row + block * kWgmmaM + warp_ * Config::kWarpRows;
      store_pieces<kByTma, kColumns>(&sums[block][0], block, 0, first_row, column);
    }
  }

  // A piece at a time: independent chains of arithmetic hide each other's latency.
  template <bool kByTma, int kCount>
  __device__ __forceinline__ void store_pieces(const float* sums, int block, int first, int row,
                                               int column) {
    constexpr int kWidth = std::min(kCount, Config::kPieceWidth);
    constexpr int kSteps = kWidth / 16;
    Step values[kSteps], work[kSteps];
    for_each<0, kSteps>([&](auto index) {
      constexpr int kStep = decltype(index)::value;
      Step bias;
      gather(sums + 8 * kStep, block, first + 16 * kStep, values[kStep], bias);
      params_.epilogue.start(values[kStep], bias, work[kStep]);
    });
    // The last piece, whose staging is complete by now.
    if (first > 0) send<kByTma, Config::kPieceWidth>(row, column + first - Config::kPieceWidth);
    Piece& buffer = shared_.staging[consumer_][warp_][staging_];
    for_each<0, kSteps>([&](auto index) {
      constexpr int kStep = decltype(index)::value;
      params_.epilogue.finish(values[kStep], work[kStep]);
      stage<kStep>(values[kStep], buffer);
    });
    if constexpr (kCount > kWidth) {
      store_pieces<kByTma, kCount - kWidth>(sums + kWidth / 2, block, first + kWidth, row, column);
    } else {
      send<kByTma, kWidth>(row, column + first);
    }
  }

  __device__ __forceinline__ void gather(const float* sums, int block, int first, Step& values,
                                         Step& bias) const {
    if constexpr (Config::kTransposed) {
      const int in_tile = block * kWgmmaM + warp_ * Config::kWarpRows + lane_ / 4;
      const float upper = shared_.bias[consumer_][in_tile];
      const float lower = shared_.bias[consumer_][in_tile + 8];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* const four = &sums[i / 2 * 4];
        set(values[i], four[i % 2], four[i % 2 + 2]);
        set(bias[i], upper, lower);
      }
    } else {
      const int in_tile = first + lane_ % 4 * 2;
      const auto* const pairs = reinterpret_cast<const float2*>(&shared_.bias[consumer_][in_tile]);
      const float2 left = pairs[0], right = pairs[4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float* const four = &sums[2 * half];
        set(values[half], four[0], four[1], four[4], four[5]);
        set(bias[half], left.x, left.y, right.x, right.y);
      }
    }
  }

  template <class... Numbers>
  static __device__ __forceinline__ void set(float (&all)[kTogether], Numbers... numbers) {
    int i = 0;
    ((all[i++] = numbers), ...);
  }

  // Each lane gives stmatrix the address of one row of eight outputs; float32 goes in pairs.
  template <int kStep>
  __device__ __forceinline__ void stage(const Step& values, Piece& buffer) const {
    constexpr int kStepsPerBox = Config::kBoxWidth / 16;
    constexpr int kInBox = kStep % kStepsPerBox;
    Box& box = buffer[kStep / kStepsPerBox];
    if constexpr (Config::kTransposed) {
      const uint32_t matrices[4] = {
          pack(Element{}, values[0][0], values[1][0]), pack(Element{}, values[0][1], values[1][1]),
          pack(Element{}, values[2][0], values[3][0]), pack(Element{}, values[2][1], values[3][1])};
      const int row = 16 * kInBox + lane_ / 16 * 8 + lane_ % 8;
      store_matrices_transposed(&box[row][swizzled(row, lane_ / 8 % 2) * 8], matrices);
    } else if constexpr (sizeof(Element) == 4) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = lane_ / 4 + i % 2 * 8;
        const int chunk = swizzled(row, 4 * kInBox + i / 2 * 2 + lane_ % 4 / 2);
        const float* const pair = &values[i % 2][i / 2 * 2];
        *reinterpret_cast<float2*>(&box[row][chunk * kChunk + lane_ % 2 * 2]) =
            make_float2(pair[0], pair[1]);
      }
    } else {
      const auto& [upper, lower] = values;
      const uint32_t matrices[4] = {
          pack(Element{}, upper[0], upper[1]), pack(Element{}, lower[0], lower[1]),
          pack(Element{}, upper[2], upper[3]), pack(Element{}, lower[2], lower[3])};
      const int row = lane_ % 16;
      store_matrices(&box[row][swizzled(row, 2 * kInBox + lane_ / 16) * 8], matrices);
    }
  }

  // Sends off the staged piece whose sums start at this row and column. On return the next buffer
  // is free.
  template <bool kByTma, int kWidth>
  __device__ __forceinline__ void send(int row, int column) {
    const Piece& buffer = shared_.staging[consumer_][warp_][staging_];
    staging_ = (staging_ + 1) % Config::kStagingBuffers;
    if constexpr (kByTma) {
      // With two buffers, the next one is that of the store before this: long done by now.
      if constexpr (Config::kStagingBuffers > 1) wait_until_stores_have_read<0>();
      fence_shared_for_tma();
      __syncwarp();
#pragma unroll
      for (int box = 0; box < kWidth / Config::kBoxWidth; ++box) {
        const TilePosition to = place_of(row, column + box * Config::kBoxWidth);
        store_box_if(lane_ == 0 && to.row < params_.m && to.column < params_.n, out_map_,
                     buffer[box], to.column, to.row);
      }
      commit_stores();
      if constexpr (Config::kStagingBuffers == 1) {
        wait_until_stores_have_read<0>();
        __syncwarp();
      }
    } else {
      __syncwarp();
#pragma unroll 1
      for (int box = 0; box < kWidth / Config::kBoxWidth; ++box) {
        copy(buffer[box], place_of(row, column + box * Config::kBoxWidth));
      }
      __syncwarp();
    }
  }

  static __device__ __forceinline__ TilePosition place_of(int row, int column) {
    return Config::kTransposed ? TilePosition{column, row} : TilePosition{row, column};
  }

  // Where rows of the output are not aligned as TMA wants them.
  __device__ __forceinline__ void copy(const Box& buffer, TilePosition to) const {
    const int rows = min(Config::kOutBoxRows, params_.m - to.row);
    const int columns = min(Config::kOutBoxColumns, params_.n - to.column);
    Element* target = params_.out + static_cast<int64_t>(to.row) * params_.n + to.column;
#pragma unroll 1
    for (int row = 0; row < rows; ++row, target += params_.n) {
#pragma unroll
      for (int i = 0; i < Config::kOutBoxColumns; i += kWarp) {
        const int column = i + lane_;
        if (column < columns) {
          target[column] = buffer[row][swizzled(row, column / kChunk) * kChunk + column % kChunk];
        }
      }
    }
  }

  const Params<Element, Epilogue>& params_;
  const CUtensorMap& out_map_;
  SharedStorage<Config>& shared_;
  const int consumer_, thread_, lane_, warp_;
  int staging_ = 0;  // the buffer to use next
  uint32_t fetched_bias_[kBiasesPerThread];
};

}  // namespace fusedops::sm90
