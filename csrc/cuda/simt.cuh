#pragma once

#include <cstdint>

#include "cuda/async_copies.cuh"
#include "cuda/bias.cuh"
#include "cuda/epilogues.cuh"

// A GEMM without tensor cores, in IEEE float32, for any strides. cp.async brings single elements,
// so that shared memory holds the operands with K outermost whatever their layout is. A thread
// keeps 16 or 8 rows by 8 columns of sums, in groups of four rows by four columns.
namespace fusedops::simt {

constexpr int kWarp = 32;
constexpr int kVector = 4;               // floats in a shared-memory read
constexpr int kLanesM = 4, kLanesN = 8;  // a warp's threads
constexpr int kTileK = 8;
constexpr int kPadding = 4;  // elements of one row then lie in distinct banks

template <int kWarpsM_, int kWarpsN_, int kGroupsM_, int kStages_, int kBlocksPerSM_>
struct Config {
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
  static constexpr int kStages = kStages_;
  static constexpr int kBlocksPerSM = kBlocksPerSM_;
  static constexpr int kThreads = kWarpsM * kWarpsN * kWarp;
  static constexpr int kGroupsM = kGroupsM_, kGroupsN = 2;
  static constexpr int kSumsM = kGroupsM * kVector, kSumsN = kGroupsN * kVector;
  static constexpr int kWarpM = kLanesM * kSumsM, kWarpN = kLanesN * kSumsN;
  static constexpr int kTileM = kWarpsM * kWarpM, kTileN = kWarpsN * kWarpN;
};

template <class Config>
struct SharedStorage {
  float x[Config::kStages][kTileK][Config::kTileM + kPadding];
  float weight[Config::kStages][kTileK][Config::kTileN + kPadding];
};

struct Operand {
  const float* data;
  int64_t rows, row_stride, k_stride;
};

template <class Epilogue>
struct Params {
  Operand x, weight;
  int64_t k;
  Bias<float> bias;
  Epilogue epilogue;
  float* out;
  float* z;  // null: not wanted
  int tiles_m, tiles_n;
  int group_m;  // tiles of M that share one sweep over N
};

__device__ __forceinline__ void copy_element_async(float* shared, const float* global,
                                                   bool inside) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(inside ? 4 : 0)
               : "memory");
}

// One thread's elements of an operand's tiles: neighbours in the block are neighbours in memory,
// along K or along the rows.
template <int kRows, int kThreads>
class TileLoader {
 public:
  static_assert(kRows <= kThreads && kThreads % kRows == 0 && kThreads % kTileK == 0);
  static constexpr int kElements = kRows * kTileK / kThreads;

  __device__ __forceinline__ TileLoader(const Operand& operand, int64_t first_row) {
    const bool along_rows = operand.row_stride == 1 && operand.k_stride != 1;
    const int thread = threadIdx.x;
    row_ = along_rows ? thread % kRows : thread / kTileK;
    k_ = along_rows ? thread / kRows : thread % kTileK;
    const int row_step = along_rows ? 0 : kThreads / kTileK;
    k_step_ = along_rows ? kThreads / kRows : 0;
    shared_step_ = k_step_ * (kRows + kPadding) + row_step;
    global_step_ = k_step_ * operand.k_stride + row_step * operand.row_stride;
    tile_step_ = kTileK * operand.k_stride;
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      if (first_row + row_ + i * row_step < operand.rows) inside_ |= 1u << i;
    }
    source_ = operand.data + (first_row + row_) * operand.row_stride + k_ * operand.k_stride;
  }

  // The next tile; `remaining` is what is left of K.
  __device__ __forceinline__ void load(float (&stage)[kTileK][kRows + kPadding],
                                       int64_t remaining) {
    uint32_t inside = inside_;
    if (remaining < kTileK) {
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        if (k_ + i * k_step_ >= remaining) inside &= ~(1u << i);
      }
    }
    float* const target = &stage[k_][row_];
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      copy_element_async(target + i * shared_step_, source_ + i * global_step_, inside >> i & 1);
    }
    source_ += tile_step_;
  }

 private:
  const float* source_;
  int64_t global_step_, tile_step_;
  int row_, k_, k_step_, shared_step_;
  uint32_t inside_ = 0;
};

template <int kGroups>
struct Fragment {
  float values[kGroups * kVector];
};

// kGroups vectors, `spacing` apart.
template <int kGroups>
__device__ __forceinline__ Fragment<kGroups> read_fragment(const float* first, int spacing) {
  Fragment<kGroups> fragment;
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    const float4 four = *reinterpret_cast<const float4*>(first + group * spacing);
    fragment.values[group * kVector] = four.x;
    fragment.values[group * kVector + 1] = four.y;
    fragment.values[group * kVector + 2] = four.z;
    fragment.values[group * kVector + 3] = four.w;
  }
  return fragment;
}

template <int kSumsM, int kSumsN, class Launched, class Epilogue>
__device__ __forceinline__ void store(const Params<Launched>& params, float* results,
                                      const Epilogue& epilogue, const float (&sums)[kSumsM][kSumsN],
                                      int64_t first_row, int64_t first_column) {
  const int64_t n = params.weight.rows;
  const bool vectors = n % kVector == 0;
#pragma unroll
  for (int group = 0; group < kSumsN / kVector; ++group) {
    const int64_t column = first_column + group * kLanesN * kVector;
    float bias[kVector];
#pragma unroll
    for (int j = 0; j < kVector; ++j) bias[j] = column + j < n ? params.bias[column + j] : 0.0f;
#pragma unroll
    for (int i = 0; i < kSumsM; ++i) {
      const int64_t row = first_row + i / kVector * kLanesM * kVector + i % kVector;
      if (row >= params.x.rows) continue;
      float y[kVector];
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        y[j] = epilogue(sums[i][group * kVector + j], bias[j]);
      }
      float* const target = results + row * n + column;
      if (vectors) {
        if (column < n) *reinterpret_cast<float4*>(target) = make_float4(y[0], y[1], y[2], y[3]);
      } else {
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          if (column + j < n) target[j] = y[j];
        }
      }
    }
  }
}

template <class Config, class Epilogue>
__device__ __forceinline__ void simt_gemm(const Params<Epilogue>& params) {
  constexpr int kStages = Config::kStages;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  auto& shared = *reinterpret_cast<SharedStorage<Config>*>(shared_memory);

  // Sweeps N within groups of M tiles, so that blocks running together share operands in L2.
  const int group_tiles = params.group_m * params.tiles_n;
  const int group = static_cast<int>(blockIdx.x) / group_tiles;
  const int within = static_cast<int>(blockIdx.x) - group * group_tiles;
  const int height = min(params.group_m, params.tiles_m - group * params.group_m);
  const int64_t first_m = int64_t{group * params.group_m + within % height} * Config::kTileM;
  const int64_t first_n = int64_t{within / height} * Config::kTileN;

  TileLoader<Config::kTileM, Config::kThreads> load_x(params.x, first_m);
  TileLoader<Config::kTileN, Config::kThreads> load_weight(params.weight, first_n);
  int64_t to_load = params.k;
  const auto load_next = [&](int stage) {
    if (to_load > 0) {
      load_x.load(shared.x[stage], to_load);
      load_weight.load(shared.weight[stage], to_load);
      to_load -= kTileK;
    }
    commit_copies();
  };
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) load_next(stage);

  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  // Neighbouring lanes read the same rows, lanes two apart the same columns: fewer wavefronts.
  const int lane_m = lane / 2 % 2 + lane / 16 * 2;
  const int lane_n = lane % 2 + lane / 4 % 4 * 2;
  const int row = warp / Config::kWarpsN * Config::kWarpM + lane_m * kVector;
  const int column = warp % Config::kWarpsN * Config::kWarpN + lane_n * kVector;

  float sums[Config::kSumsM][Config::kSumsN] = {};
  int read_stage = 0, write_stage = kStages - 1;
  for (int64_t remaining = params.k; remaining > 0; remaining -= kTileK) {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    load_next(write_stage);
    write_stage = write_stage + 1 == kStages ? 0 : write_stage + 1;

    const auto& x = shared.x[read_stage];
    const auto& weight = shared.weight[read_stage];
    read_stage = read_stage + 1 == kStages ? 0 : read_stage + 1;
    auto a = read_fragment<Config::kGroupsM>(&x[0][row], kLanesM * kVector);
    auto b = read_fragment<Config::kGroupsN>(&weight[0][column], kLanesN * kVector);
#pragma unroll
    for (int k = 0; k < kTileK; ++k) {
      auto next_a = a;
      auto next_b = b;
      if (k + 1 < kTileK) {
        next_a = read_fragment<Config::kGroupsM>(&x[k + 1][row], kLanesM * kVector);
        next_b = read_fragment<Config::kGroupsN>(&weight[k + 1][column], kLanesN * kVector);
      }
#pragma unroll
      for (int i = 0; i < Config::kSumsM; ++i) {
#pragma unroll
        for (int j = 0; j < Config::kSumsN; ++j) {
          sums[i][j] = fmaf(a.values[i], b.values[j], sums[i][j]);
        }
      }
      a = next_a;
      b = next_b;
    }
  }
  wait_for_copies<0>();
  if (params.z != nullptr) {
    store(params, params.z, Linear{}, sums, first_m + row, first_n + column);
  }
  store(params, params.out, params.epilogue(), sums, first_m + row, first_n + column);
}

}  // namespace fusedops::simt
