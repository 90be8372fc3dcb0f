#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "cuda/async_copies.cuh"
#include "cuda/bias.cuh"
#include "cuda/programmatic_launch.cuh"

// A GEMM for few rows of x, bound by the bandwidth that brings the weights in. A block owns a strip
// of output columns over all of K, so that every weight is read once. cp.async keeps a deep ring of
// shared-memory stages in flight; the warps share the columns and the K of each stage. The tensor
// cores see the problem transposed: sixteen weight rows are the large side of an mma.sync and eight
// rows of x the small one, so eight rows waste nothing. At the end the warps' partial sums meet in
// shared memory, always in the same order, and the epilogue follows the complete sum.

namespace fusedops::skinny {

template <class Element_, int WarpColumns_, int WarpsN_, int WarpsK_, int Rows_, int WarpK_,
          int Stages_>
struct Config {
  using Element = Element_;
  static constexpr int kWarpColumns = WarpColumns_, kWarpsN = WarpsN_;
  static constexpr int kWarpK = WarpK_, kWarpsK = WarpsK_;  // a warp's share of a stage's K
  static constexpr int kRows = Rows_;
  static constexpr int kStages = Stages_;

  static constexpr int kColumns = kWarpColumns * kWarpsN;
  static constexpr int kTileK = kWarpK * kWarpsK;
  static constexpr int kThreads = 32 * kWarpsN * kWarpsK;

  static constexpr int kVector = 16 / sizeof(Element);
  // Sixteen bytes more than a row needs: eight rows of one vector column lie in distinct banks.
  static constexpr int kPitch = kTileK * int(sizeof(Element)) + 16;
  static constexpr int kStageBytes = (kColumns + kRows) * kPitch;
  static constexpr int kVectorsPerRow = kTileK / kVector;
  static constexpr int kRowStep = kThreads / kVectorsPerRow;  // rows that all threads load at once

  // Partial sums, a row of x after the other. Four floats of padding: a warp's fragments lie in
  // distinct banks.
  static constexpr int kSumPitch = kColumns + 4;
  static constexpr int kSumBytes = kWarpsK * kRows * kSumPitch * int(sizeof(float));
  static constexpr int kRingBytes = kStages * kStageBytes;
  static constexpr int kSharedMemory = kRingBytes > kSumBytes ? kRingBytes : kSumBytes;

  static_assert(sizeof(Element) == 2 && kStages >= 2);
  static_assert(kWarpColumns % 16 == 0 && kRows % 8 == 0);
  static_assert(kWarpK % 32 == 0, "one ldmatrix.x4 serves eight rows of x over 32 of K");
  static_assert(kThreads % kVectorsPerRow == 0 && kColumns % kRowStep == 0);
  static_assert(kSharedMemory <= 99 * 1024, "what one block may hold on sm_86 and sm_89");
};

template <class Element, class Epilogue>
struct Params {
  const Element* x;
  const Element* weight;
  Bias<Element> bias;
  Element* out;
  int64_t m, n, k;
  int64_t x_stride, weight_stride;  // elements between rows
  Epilogue epilogue;
};

// Copies `bytes`, 16 or 0, to shared memory and zero-fills the rest of the vector.
__device__ __forceinline__ void copy_vector_async(uint32_t shared, const void* global, int bytes,
                                                  uint64_t policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(shared),
               "l"(global), "r"(bytes), "l"(policy)
               : "memory");
}

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(uint32_t (&matrices)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(row)
               : "memory");
}

#define FUSEDOPS_SKINNY_MULTIPLY(ELEMENT, TYPE)                                                \
  __device__ __forceinline__ void multiply(float (&sums)[4], const uint32_t (&weight)[4],      \
                                           uint32_t x_low, uint32_t x_high, ELEMENT) {         \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE                        \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"        \
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                  \
                 : "r"(weight[0]), "r"(weight[1]), "r"(weight[2]), "r"(weight[3]), "r"(x_low), \
                   "r"(x_high));                                                               \
  }
FUSEDOPS_SKINNY_MULTIPLY(__half, "f16")
FUSEDOPS_SKINNY_MULTIPLY(__nv_bfloat16, "bf16")
#undef FUSEDOPS_SKINNY_MULTIPLY

// This thread's vectors of one operand, at one column of vectors and every kRowStep-th row.
template <class Config, int kTileRows>
struct RowLoader {
  using Element = typename Config::Element;
  const Element* source;
  int64_t step;
  uint32_t destination;
  int row, rows;
  uint64_t policy;

  // Rows beyond the operand are not read. What their place in shared memory holds reaches only
  // outputs that do not exist.
  __device__ __forceinline__ RowLoader(const Element* operand, int64_t stride, int64_t first_row,
                                       int rows, uint32_t shared, uint64_t policy)
      : step(stride * Config::kRowStep), rows(rows), policy(policy) {
    const int column = threadIdx.x % Config::kVectorsPerRow;
    row = threadIdx.x / Config::kVectorsPerRow;
    source = operand + (first_row + row) * stride + column * Config::kVector;
    destination = shared + row * Config::kPitch + column * 16;
  }

  // `inside`: this thread's column of vectors exists in the K tile. If not, zeros.
  __device__ __forceinline__ void load(int stage, int64_t k, bool inside) const {
    const int column = threadIdx.x % Config::kVectorsPerRow;
    const Element* const from = source + (inside ? k : -column * Config::kVector);
    const uint32_t to = destination + stage * Config::kStageBytes;
#pragma unroll
    for (int i = 0; i * Config::kRowStep < kTileRows; ++i) {
      if (row + i * Config::kRowStep < rows) {
        copy_vector_async(to + i * Config::kRowStep * Config::kPitch, from + i * step,
                          inside ? 16 : 0, policy);
      }
    }
  }
};

// One warp's fragments: sums[i][j] is 16 weight rows by 8 rows of x.
template <class Config>
struct WarpProducts {
  using Element = typename Config::Element;
  static constexpr int kTilesN = Config::kWarpColumns / 16, kTilesM = Config::kRows / 8;

  float sums[kTilesN][kTilesM][4] = {};
  uint32_t weight, x;  // this lane's rows for ldmatrix, in the first stage

  __device__ __forceinline__ WarpProducts(uint32_t shared, int warp_n, int warp_k) {
    const int lane = threadIdx.x % 32;
    const int k_bytes = warp_k * Config::kWarpK * int(sizeof(Element));
    // Rows 0-7 and 8-15 at one K vector, then both at the next.
    weight = shared + (warp_n * Config::kWarpColumns + lane % 16) * Config::kPitch + k_bytes +
             lane / 16 * 16;
    // Eight rows at four K vectors: two K steps.
    x = shared + (Config::kColumns + lane % 8) * Config::kPitch + k_bytes + lane / 8 * 16;
  }

  __device__ __forceinline__ void add_stage(int stage) {
    constexpr int kStepBytes = 16 * sizeof(Element);
    const uint32_t offset = stage * Config::kStageBytes;
#pragma unroll
    for (int k = 0; k < Config::kWarpK / 16; k += 2) {
      uint32_t rows_of_x[kTilesM][4];
#pragma unroll
      for (int j = 0; j < kTilesM; ++j) {
        load_matrices(rows_of_x[j], x + offset + j * 8 * Config::kPitch + k * kStepBytes);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int i = 0; i < kTilesN; ++i) {
          uint32_t rows_of_weight[4];
          load_matrices(rows_of_weight,
                        weight + offset + i * 16 * Config::kPitch + (k + half) * kStepBytes);
#pragma unroll
          for (int j = 0; j < kTilesM; ++j) {
            multiply(sums[i][j], rows_of_weight, rows_of_x[j][2 * half], rows_of_x[j][2 * half + 1],
                     Element{});
          }
        }
      }
    }
  }

  __device__ __forceinline__ void write(float* partial, int warp_n) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kTilesN; ++i) {
#pragma unroll
      for (int j = 0; j < kTilesM; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int column = warp_n * Config::kWarpColumns + i * 16 + lane / 4 + e / 2 * 8;
          const int row = j * 8 + lane % 4 * 2 + e % 2;
          partial[row * Config::kSumPitch + column] = sums[i][j][e];
        }
      }
    }
  }
};

template <class Config, class Epilogue>
__device__ __forceinline__ void skinny_multistage(
    const Params<typename Config::Element, Epilogue>& params) {
  using Element = typename Config::Element;
  constexpr int kStages = Config::kStages;
  extern __shared__ __align__(128) unsigned char shared_memory[];
  const uint32_t shared = shared_address(shared_memory);

  const int64_t first_n = int64_t(blockIdx.x) * Config::kColumns;
  const int64_t first_m = int64_t(blockIdx.y) * Config::kRows;
  const int columns = int(min(params.n - first_n, int64_t(Config::kColumns)));
  const int rows = int(min(params.m - first_m, int64_t(Config::kRows)));
  const int warp = threadIdx.x / 32;
  const int warp_n = warp % Config::kWarpsN, warp_k = warp / Config::kWarpsN;

  const RowLoader<Config, Config::kColumns> weight(params.weight, params.weight_stride, first_n,
                                                   columns, shared, evict_first());
  const RowLoader<Config, Config::kRows> x(params.x, params.x_stride, first_m, rows,
                                           shared + Config::kColumns * Config::kPitch,
                                           evict_normal());
  const int column = threadIdx.x % Config::kVectorsPerRow * Config::kVector;
  const int64_t tiles = (params.k + Config::kTileK - 1) / Config::kTileK;
  const auto load = [&](int stage, int64_t tile) {
    const int64_t k = tile * Config::kTileK;
    const bool inside = k + column < params.k;
    weight.load(stage, k, inside);
    x.load(stage, k, inside);
  };

  wait_for_predecessor();
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < tiles) load(stage, stage);
    commit_copies();
  }
  WarpProducts<Config> products(shared, warp_n, warp_k);
  int read = 0, write = kStages - 1;
#pragma unroll 1
  for (int64_t tile = 0; tile < tiles; ++tile) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // the stage is complete, and every warp is done with the one before it
    if (tile + kStages - 1 < tiles) load(write, tile + kStages - 1);
    commit_copies();
    products.add_stage(read);
    read = read + 1 == kStages ? 0 : read + 1;
    write = write + 1 == kStages ? 0 : write + 1;
  }
  launch_dependents();
  wait_for_copies<0>();
  __syncthreads();

  float* const partial = reinterpret_cast<float*>(shared_memory);
  products.write(partial + warp_k * Config::kRows * Config::kSumPitch, warp_n);
  __syncthreads();
#pragma unroll 4
  for (int i = threadIdx.x; i < Config::kRows * Config::kColumns; i += Config::kThreads) {
    const int row = i / Config::kColumns, out_column = i % Config::kColumns;
    if (row >= rows || out_column >= columns) continue;
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < Config::kWarpsK; ++k) {
      sum += partial[(k * Config::kRows + row) * Config::kSumPitch + out_column];
    }
    const int64_t n = first_n + out_column;
    params.out[(first_m + row) * params.n + n] = Element(params.epilogue(sum, params.bias[n]));
  }
}

}  // namespace fusedops::skinny
