#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cute/arch/mma_sm90_gmma.hpp>
#include <utility>

// float32 as a sum of 16-bit pieces, and the tensor-core product of two pieces.
namespace fusedops::sm90_fp32 {

__device__ __forceinline__ float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(uint32_t pair) {
  return __uint_as_float(pair & 0xFFFF0000u);
}

__device__ __forceinline__ uint32_t round_to_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

// Three bfloat16 pieces hold the 24 bits of a float32 exactly: each takes 8 by rounding to nearest.
// Of the nine products of pieces the six largest are added up; the others are below 2^-26.
struct ThreeBf16 {
  static constexpr int kPieces = 3;
  static constexpr int kProducts = 6;
  // Smallest first.
  static constexpr int piece_of_x(int product) {
    constexpr int kPiece[kProducts] = {2, 0, 1, 1, 0, 0};
    return kPiece[product];
  }
  static constexpr int piece_of_weight(int product) {
    constexpr int kPiece[kProducts] = {0, 2, 1, 0, 1, 0};
    return kPiece[product];
  }

  // Keeps the last pieces of tiny numbers out of bfloat16's subnormals. What overflows instead
  // leaves a sum that is not finite, and is then summed again in another way.
  static constexpr float kScale = 0x1p24f;

  __device__ __forceinline__ static void split(float low, float high, uint32_t (&pieces)[kPieces]) {
    low *= kScale;
    high *= kScale;
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      pieces[piece] = round_to_bf16(low, high);
      low -= low_bf16(pieces[piece]);
      high -= high_bf16(pieces[piece]);
    }
  }

  using Multiply = cute::SM90::GMMA::MMA_64x128x16_F32BF16BF16_RS<cute::SM90::GMMA::Major::K,
                                                                  cute::SM90::GMMA::Major::K>;
};

namespace detail {
template <class Multiply, size_t... kIndex>
__device__ __forceinline__ void multiply(const uint32_t (&a)[4], uint64_t b,
                                         float (&accumulator)[sizeof...(kIndex)], bool accumulate,
                                         std::index_sequence<kIndex...>) {
  using cute::SM90::GMMA::ScaleOut;
  Multiply::fma(a[0], a[1], a[2], a[3], b, accumulator[kIndex]...,
                accumulate ? ScaleOut::One : ScaleOut::Zero);
}
}  // namespace detail

// accumulator = a * b^T (+ accumulator): 64 x 16 pieces in the warpgroup's registers times 128 x 16
// in shared memory.
template <class Scheme>
__device__ __forceinline__ void multiply_pieces(const uint32_t (&a)[4], uint64_t b,
                                                float (&accumulator)[64], bool accumulate) {
  detail::multiply<typename Scheme::Multiply>(a, b, accumulator, accumulate,
                                              std::make_index_sequence<64>{});
}

}  // namespace fusedops::sm90_fp32
