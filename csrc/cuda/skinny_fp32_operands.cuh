#pragma once

#include <cstdint>

#include "cuda/async_copies.cuh"

// The shape of a block's work, and how the operands of cuda.skinny_fp32 come to shared memory.

namespace fusedops::skinny_fp32 {

constexpr int kWarp = 32;
constexpr int kVector = 4;  // floats in a shared-memory read
constexpr int kFloat = sizeof(float);

template <int kRows_, int kLaneRows_, int kLaneColumns_, int kWarpsN_, int kWarpsK_, int kSteps_,
          int kStages_, int kCopied_ = kVector>
struct Config {
  static constexpr int kRows = kRows_;
  static constexpr int kLaneRows = kLaneRows_, kLaneColumns = kLaneColumns_;  // a lane's sums
  static constexpr int kWarpsN = kWarpsN_, kWarpsK = kWarpsK_;
  static constexpr int kSteps = kSteps_;  // a warp's, along K of a stage
  static constexpr int kStages = kStages_;
  static constexpr int kCopied =
      kCopied_;  // floats that one copy brings: rows lie as they like at 1

  static constexpr int kLanesM = kRows / kLaneRows, kLanesN = 2;
  static constexpr int kLanesK = kWarp / (kLanesM * kLanesN);
  static constexpr int kSums = kLaneRows * kLaneColumns;
  static constexpr int kWarpColumns = kLanesN * kLaneColumns;
  static constexpr int kColumns = kWarpColumns * kWarpsN;  // the widest strip
  static constexpr int kStepK = kLanesK * kVector;
  static constexpr int kTileK = kStepK * kSteps * kWarpsK;
  static constexpr int kThreads = kWarp * kWarpsN * kWarpsK;
  static constexpr int kRowBytes = kTileK * kFloat;
  static constexpr int kStageBytes = (kColumns + kRows) * kRowBytes;
  // One sum of each output from every warp along K. An Exchange of several blocks keeps a share of
  // the outputs here, from as many times the warps.
  static constexpr int kPartials = kWarpsK * kRows * kColumns;
  static constexpr int kSharedMemory = kStages * kStageBytes + kPartials * kFloat;

  static constexpr int kCopiesPerRow = kTileK / kCopied;
  static constexpr int kRowStep = kThreads / kCopiesPerRow;  // rows that all threads copy at once

  static_assert(kLanesM == 1 || kLanesM == 2);
  static_assert(kRowBytes % 128 == 0, "rows begin at the first bank");
  static_assert(kThreads % kCopiesPerRow == 0);
  static_assert(kRowStep % 2 == 0, "a thread's rows are all even or all odd");
};

// Four floats, of a row of either operand in shared memory, that another row of the same parity
// would put into the same banks: those of odd rows trade places with the four next to them.
template <bool kInterleaved>
__device__ __forceinline__ int swizzle(int byte, int row) {
  return kInterleaved ? byte ^ row % 2 * 64 : byte;
}

template <int kFloats>
__device__ __forceinline__ void copy_async(uint32_t shared, const float* global, bool zeros,
                                           uint64_t policy) {
  static_assert(kFloats == 1 || kFloats == 4);
  if constexpr (kFloats == 4) {
    asm volatile(
        "{\n"
        ".reg .pred zeros;\n"
        "setp.ne.u32 zeros, %2, 0;\n"
        "cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, zeros, %3;\n"
        "}\n" ::"r"(shared),
        "l"(global), "r"(static_cast<uint32_t>(zeros)), "l"(policy)
        : "memory");
  } else {
    asm volatile(
        "{\n"
        ".reg .pred zeros;\n"
        "setp.ne.u32 zeros, %2, 0;\n"
        "cp.async.ca.shared.global.L2::cache_hint [%0], [%1], 4, zeros, %3;\n"
        "}\n" ::"r"(shared),
        "l"(global), "r"(static_cast<uint32_t>(zeros)), "l"(policy)
        : "memory");
  }
}

// What one thread copies of an operand's tiles: one place along K in every kRowStep-th row.
template <class Config, int kTileRows, bool kInterleaved>
class Loader {
 public:
  static constexpr int kCopies = (kTileRows + Config::kRowStep - 1) / Config::kRowStep;

  // Rows beyond the operand are not read. What their place in shared memory holds reaches only
  // outputs that do not exist.
  __device__ __forceinline__ Loader(const float* operand, int64_t stride, int64_t first_row,
                                    int rows, uint32_t shared, uint64_t policy)
      : step_(stride * Config::kRowStep), policy_(policy) {
    const int row = threadIdx.x / Config::kCopiesPerRow;
    const int k = threadIdx.x % Config::kCopiesPerRow * Config::kCopied;
    source_ = operand + (first_row + row) * stride + k;
    destination_ = shared + row * Config::kRowBytes + swizzle<kInterleaved>(k * kFloat, row);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      present_ |= static_cast<uint32_t>(row + i * Config::kRowStep < rows) << i;
    }
  }

  // `zeros`: this thread's place of the tile lies beyond K.
  __device__ __forceinline__ void load(int stage, int64_t k, bool zeros) const {
    const uint32_t to = destination_ + stage * Config::kStageBytes;
    const float* from = source_ + k;
#pragma unroll
    for (int i = 0; i < kCopies; ++i, from += step_) {
      if (present_ >> i & 1) {
        copy_async<Config::kCopied>(to + i * Config::kRowStep * Config::kRowBytes, from, zeros,
                                    policy_);
      }
    }
  }

 private:
  static_assert(kCopies <= 32);
  const float* source_;
  int64_t step_;
  uint32_t destination_;
  uint32_t present_ = 0;  // a bit a copy
  uint64_t policy_;
};

}  // namespace fusedops::skinny_fp32
