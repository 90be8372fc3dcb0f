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

// Turns one consumer warpgroup's sums into stored outputs. Past the bias every warp is on its own:
// it evaluates and stores 16 rows of each wgmma block.
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

  // Before the tile's products, so that the loads are long done when publish_bias needs them.
  __device__ __forceinline__ void fetch_bias(int first_column) {
#pragma unroll
    for (int i = 0; i < kBiasesPerThread; ++i) {
      const int column = thread_ + i * kWarpgroup;
      const bool inside = column < kColumns && first_column + column < params_.n;
      fetched_bias_[i] = inside ? params_.bias.bits(first_column + column) : 0;
    }
  }

  __device__ __forceinline__ void publish_bias() {
    sync_warpgroup(1 + consumer_);  // the last tile's has been read
#pragma unroll
    for (int i = 0; i < kBiasesPerThread; ++i) {
      asm volatile("" : "+r"(fetched_bias_[i]));  // not earlier
      const int column = thread_ + i * kWarpgroup;
      if (column < kColumns) shared_.bias[consumer_][column] = params_.bias.value(fetched_bias_[i]);
    }
    sync_warpgroup(1 + consumer_);
  }

  // A piece is sent off after the next one's arithmetic, by when its staging is long complete.
  __device__ __forceinline__ void store(const Sums& sums, int row, int column) {
#pragma unroll
    for (int block = 0; block < Config::kBlocksM; ++block) {
      const int first_row = row + block * kWgmmaM + warp_ * Config::kPieceRows;
      if (first_row >= params_.m) break;
#pragma unroll
      for (int piece = 0; piece < kColumns / Config::kPieceColumns; ++piece) {
        const int first_column = column + piece * Config::kPieceColumns;
        if (first_column >= params_.n) break;
        Matrices matrices;
        evaluate(sums[block], piece, matrices);
        send_staged();
        if (lane_ == 0) wait_until_stores_have_read<Config::kStagingBuffers - 1>();
        __syncwarp();
        staging_ = (staging_ + 1) % Config::kStagingBuffers;
        stage(matrices, shared_.staging[consumer_][warp_][staging_]);
        staged_ = {first_row, first_column};
      }
    }
    send_staged();
  }

  // Shared memory may go away once pending stores have read it.
  __device__ __forceinline__ void finish() {
    if (lane_ == 0) wait_until_stores_have_read<0>();
  }

 private:
  using Piece = Element[Config::kPieceRows][Config::kPieceColumns];
  // A thread's outputs in a piece, sixteen columns at a time, as stmatrix takes them.
  static constexpr int kSteps = Config::kPieceColumns / 16;
  using Matrices = uint32_t[kSteps][4];
  static constexpr int kBiasesPerThread = (kColumns + kWarpgroup - 1) / kWarpgroup;

  // The chunk of 16 bytes that TMA's swizzle for rows of this length has at `chunk` of `row`.
  static __device__ __forceinline__ int swizzled(int row, int chunk) {
    constexpr int kChunks = Config::kPieceColumns / 8;
    constexpr int kRowsPerSwizzleRow = 8 / kChunks;
    return chunk ^ (row / kRowsPerSwizzleRow % kChunks);
  }

  // The whole piece before any of it is staged: independent chains of arithmetic hide each other's
  // latency. Of sixteen columns a thread has four in each of two rows.
  __device__ __forceinline__ void evaluate(const float (&sums)[kColumns / 2], int piece,
                                           Matrices& matrices) const {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int in_tile = piece * Config::kPieceColumns + step * 16;
      const float* const shared_bias = &shared_.bias[consumer_][in_tile + lane_ % 4 * 2];
      const float2 left = reinterpret_cast<const float2*>(shared_bias)[0];
      const float2 right = reinterpret_cast<const float2*>(shared_bias)[4];
      const float bias[4] = {left.x, left.y, right.x, right.y};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int i = in_tile / 2 + 2 * half;
        float values[4] = {sums[i], sums[i + 1], sums[i + 4], sums[i + 5]};
        params_.epilogue(values, bias);
        matrices[step][half] = pack(Element{}, values[0], values[1]);
        matrices[step][2 + half] = pack(Element{}, values[2], values[3]);
      }
    }
  }

  __device__ __forceinline__ void stage(const Matrices& matrices, Piece& buffer) const {
    const int row = lane_ % 16;  // whose address this lane gives to stmatrix
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      store_matrices(&buffer[row][swizzled(row, 2 * step + lane_ / 16) * 8], matrices[step]);
    }
  }

  __device__ __forceinline__ void send_staged() {
    if (staged_.row < 0) return;
    const Piece& buffer = shared_.staging[consumer_][warp_][staging_];
    if (params_.store_by_tma) {
      fence_shared_for_tma();
      __syncwarp();
      if (lane_ == 0) {
        store_box(out_map_, buffer, staged_.column, staged_.row);
        commit_stores();
      }
    } else {
      __syncwarp();
      copy(buffer);
    }
    staged_.row = kNothing;
  }

  // Where rows of the output are not aligned as TMA wants them.
  __device__ __forceinline__ void copy(const Piece& buffer) const {
    const int rows = min(Config::kPieceRows, params_.m - staged_.row);
    const int columns = min(Config::kPieceColumns, params_.n - staged_.column);
    Element* target =
        params_.out + static_cast<int64_t>(staged_.row) * params_.n + staged_.column;
#pragma unroll 1
    for (int row = 0; row < rows; ++row, target += params_.n) {
#pragma unroll
      for (int i = 0; i < Config::kPieceColumns; i += kWarp) {
        const int column = i + lane_;
        if (column < columns) {
          target[column] = buffer[row][swizzled(row, column / 8) * 8 + column % 8];
        }
      }
    }
  }

  const Params<Element, Epilogue>& params_;
  const CUtensorMap& out_map_;
  SharedStorage<Config>& shared_;
  const int consumer_, thread_, lane_, warp_;
  int staging_ = 0;  // the buffer used last
  static constexpr int kNothing = -1;
  TilePosition staged_{kNothing, 0};  // its piece, if that is not yet on its way
  uint32_t fetched_bias_[kBiasesPerThread];
};

}  // namespace fusedops::sm90
