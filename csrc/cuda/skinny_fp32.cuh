#pragma once

#include <cstdint>

#include "cuda/bias.cuh"
#include "cuda/epilogues.cuh"
#include "cuda/programmatic_launch.cuh"
#include "cuda/skinny_fp32_products.cuh"

// A GEMM in IEEE float32 for few rows of x, bound by the bandwidth that brings the weights in.
//
// A block owns a strip of output columns and all of K, or a part of it that an Exchange adds to the
// other parts. cp.async keeps a ring of stages in flight: of the weights, read once, and of x. Both
// lie with K innermost, so a lane multiplies four of K at a time: the lanes of a warp are one or
// two along the rows, two along the columns, and the others along K. What two lanes side by side
// read alike counts once, and a lane keeps rows x columns of sums, so that the FMA units wait for
// shared memory no more than for the weights.
//
// Strips begin at different places of K and wrap around: if all began at the first column, every
// block would ask for the same columns of x at once.
//
// At the end the lanes fold their sums, every warp hands its own to the block that owns the output,
// and that adds them, always in the same order; the epilogue follows the complete sum.

namespace fusedops::skinny_fp32 {

template <class Epilogue>
struct Params {
  const float* x;
  const float* weight;
  Bias<float> bias;
  Epilogue epilogue;
  float* out;
  float* z;  // null: not wanted
  int64_t n, k;
  int64_t x_stride, weight_stride;  // elements between rows
  int m, strips;
};

// Where the parts of K meet if one block has them all.
struct WithinBlock {
  static constexpr int kBlocks = 1;

  __device__ __forceinline__ static int rank() { return 0; }
  __device__ __forceinline__ void begin(int) {}
  __device__ __forceinline__ void wait_for_others() {}
  __device__ __forceinline__ void give(float* place, int, float sum) { *place = sum; }
  __device__ __forceinline__ void finish() { __syncthreads(); }
};

// One block: blockIdx.x counts strips and, within each, the blocks of the Exchange.
template <class Config, class Exchange, class Epilogue>
__device__ __forceinline__ void skinny_fp32(const Params<Epilogue>& params) {
  constexpr int kStages = Config::kStages, kBlocks = Exchange::kBlocks;
  constexpr int kOwned = Config::kColumns / kBlocks;  // columns of the strip
  extern __shared__ __align__(128) unsigned char shared_memory[];
  const uint32_t shared = shared_address(shared_memory);
  Exchange exchange;
  exchange.begin(Config::kPartials * kFloat);

  const int rank = Exchange::rank();
  const int64_t strip = blockIdx.x / kBlocks;
  const int64_t first_n = params.n * strip / params.strips;
  const int columns = int(params.n * (strip + 1) / params.strips - first_n);
  const int64_t all_tiles = (params.k + Config::kTileK - 1) / Config::kTileK;
  const int64_t first_tile = all_tiles * rank / kBlocks;
  const int tiles = int(all_tiles * (rank + 1) / kBlocks - first_tile);

  const Loader<Config, Config::kColumns, true> weight(params.weight, params.weight_stride, first_n,
                                                      columns, shared, evict_first());
  const Loader<Config, Config::kRows, Config::kLanesM == 2> x(
      params.x, params.x_stride, 0, params.m, shared + Config::kColumns * Config::kRowBytes,
      evict_normal());
  const int place = threadIdx.x % Config::kCopiesPerRow * Config::kCopied;
  constexpr uint32_t kGoldenRatio = 0x9E3779B1;  // neighbours land far apart
  int next = tiles > 0 ? int((uint32_t(strip) * kGoldenRatio >> 12) % uint32_t(tiles)) : 0;
  const auto load_next = [&](int stage) {
    const int64_t k = (first_tile + next) * Config::kTileK;
    const bool zeros = k + place >= params.k;
    weight.load(stage, k, zeros);
    x.load(stage, k, zeros);
    next = next + 1 == tiles ? 0 : next + 1;
  };

  wait_for_predecessor();
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < tiles) load_next(stage);
    commit_copies();
  }
  Lane<Config> lane;
  int read = 0, write = kStages - 1;
#pragma unroll 1
  for (int tile = 0; tile < tiles; ++tile) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // the stage is complete, and every warp is done with the one before it
    if (tile + kStages - 1 < tiles) load_next(write);
    commit_copies();
    lane.add_stage(shared_memory + read * Config::kStageBytes);
    read = read + 1 == kStages ? 0 : read + 1;
    write = write + 1 == kStages ? 0 : write + 1;
  }
  launch_dependents();

  float* const partials = reinterpret_cast<float*>(shared_memory + kStages * Config::kStageBytes);
  constexpr int kOwnedSums = Config::kRows * kOwned;
  float* const own_part = partials + (rank * Config::kWarpsK + lane.warp_k) * kOwnedSums;
  exchange.wait_for_others();
  lane.fold([&](int row, int column, float sum) {
    exchange.give(own_part + row * kOwned + column % kOwned, column / kOwned, sum);
  });
  exchange.finish();

  const auto epilogue = params.epilogue();
  for (int i = threadIdx.x; i < kOwnedSums; i += Config::kThreads) {
    const int row = i / kOwned, column = rank * kOwned + i % kOwned;
    if (row >= params.m || column >= columns) continue;
    float sum = 0.0f;
#pragma unroll
    for (int part = 0; part < kBlocks * Config::kWarpsK; ++part) {
      sum += partials[part * kOwnedSums + i];
    }
    const int64_t n = first_n + column, at = row * params.n + n;
    const float bias = params.bias[n];
    if (params.z != nullptr) params.z[at] = Linear{}(sum, bias);
    params.out[at] = epilogue(sum, bias);
  }
}

}  // namespace fusedops::skinny_fp32
