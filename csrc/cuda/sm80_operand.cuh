#pragma once

#include <cstdint>

#include "cuda/sm80_primitives.cuh"

namespace fusedops::sm80 {

inline constexpr int kVectorBytes = 16;
inline constexpr int kVectorElements = 8;

// Byte offset of a 16-byte vector in a tile whose rows hold kVectors of them. A row's vectors are
// permuted so that eight rows of one column of vectors, which is what ldmatrix and the epilogue
// touch at once, lie in distinct banks.
template <int kVectors>
__device__ __forceinline__ int swizzled(int row, int vector) {
  constexpr int kPermuted = kVectors < 8 ? kVectors : 8;
  constexpr int kRowsPerLine = 8 / kPermuted;  // rows in one line of all banks
  return (row * kVectors + (vector ^ (row / kRowsPerLine % kPermuted))) * kVectorBytes;
}

// Brings one operand's tile, K tile by K tile, into its part of a stage. Each thread owns one
// column of vectors in every kRowStep-th row. Rows past the end repeat the last one: they reach
// only results that are never stored.
template <class Config, int kRows>
class OperandLoader {
  using Element = typename Config::Element;
  static constexpr int kRowStep = Config::kThreads / Config::kVectors;
  static constexpr int kCopies = kRows / kRowStep;
  static_assert(kRows % kRowStep == 0 && kRowStep % 8 == 0, "a thread's rows share one swizzle");

 public:
  __device__ __forceinline__ OperandLoader(uint32_t destination, const void* operand,
                                           int64_t stride, int64_t first_row, int64_t rows) {
    const int row = threadIdx.x / Config::kVectors;
    const int vector = threadIdx.x % Config::kVectors;
    destination_ = destination + swizzled<Config::kVectors>(row, vector);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t source_row = min(first_row + row + i * kRowStep, rows - 1);
      sources_[i] =
          static_cast<const Element*>(operand) + source_row * stride + vector * kVectorElements;
    }
  }

  // The next K tile: `bytes` is 16 where the rows still hold this thread's vectors, or 0.
  __device__ __forceinline__ void load_next(uint32_t stage, int bytes) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      copy_async(destination_ + stage + i * kRowStep * Config::kRowBytes, sources_[i], bytes);
      sources_[i] += Config::kTileK;
    }
  }

 private:
  const Element* sources_[kCopies];
  uint32_t destination_;
};

}  // namespace fusedops::sm80
