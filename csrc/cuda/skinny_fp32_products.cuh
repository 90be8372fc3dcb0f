#pragma once

#include "cuda/elements.cuh"
#include "cuda/skinny_fp32_operands.cuh"

namespace fusedops::skinny_fp32 {

// Where a lane stands in its warp, and its sums. sums[column * kLaneRows + row].
template <class Config>
struct Lane {
  int m, n, k;
  int warp_n, warp_k;
  float sums[Config::kSums] = {};

  // Neighbours read the same rows of x, and with two of those lanes two apart the same weights.
  __device__ __forceinline__ Lane() {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    n = lane % 2;
    m = lane / 2 % Config::kLanesM;
    k = lane / (2 * Config::kLanesM);
    warp_n = warp % Config::kWarpsN;
    warp_k = warp / Config::kWarpsN;
  }

  __device__ __forceinline__ void add_stage(const unsigned char* stage) {
    const int k_bytes = (warp_k * Config::kSteps * Config::kLanesK + k) * kVector * kFloat;
    const unsigned char* const weight =
        stage + (warp_n * Config::kWarpColumns + n) * Config::kRowBytes + swizzle<true>(k_bytes, n);
    const unsigned char* const x = stage + (Config::kColumns + m) * Config::kRowBytes +
                                   swizzle<Config::kLanesM == 2>(k_bytes, m);
    const auto read = [](const unsigned char* place) {
      return *reinterpret_cast<const Vector<float, kVector>*>(place);
    };
#pragma unroll
    for (int step = 0; step < Config::kSteps; ++step) {
      const int along_k = step * Config::kStepK * kFloat;
      Vector<float, kVector> rows[Config::kLaneRows];
#pragma unroll
      for (int i = 0; i < Config::kLaneRows; ++i) {
        rows[i] = read(x + i * Config::kLanesM * Config::kRowBytes + along_k);
      }
#pragma unroll
      for (int j = 0; j < Config::kLaneColumns; ++j) {
        const auto column = read(weight + j * Config::kLanesN * Config::kRowBytes + along_k);
#pragma unroll
        for (int element = 0; element < kVector; ++element) {
#pragma unroll
          for (int i = 0; i < Config::kLaneRows; ++i) {
            float& sum = sums[j * Config::kLaneRows + i];
            sum = fmaf(rows[i].elements[element], column.elements[element], sum);
          }
        }
      }
    }
  }

  // Adds the sums of the lanes that differ along K alone, then calls `give(row, column, sum)` once
  // for each sum of the warp's.
  template <class Give>
  __device__ __forceinline__ void fold(const Give& give) {
    fold<Config::kSums, 2 * Config::kLanesM>(0, true, give);
  }

 private:
  // Each step halves what a lane keeps, until one sum is left, which lanes then share.
  template <int kKept, int kApart, class Give>
  __device__ __forceinline__ void fold(int first, bool gives, const Give& give) {
    const bool upper = threadIdx.x & kApart;
    if constexpr (kApart == kWarp) {
      if (!gives) return;
#pragma unroll
      for (int i = 0; i < kKept; ++i) {
        const int row = (first + i) % Config::kLaneRows, column = (first + i) / Config::kLaneRows;
        give(row * Config::kLanesM + m,
             warp_n * Config::kWarpColumns + column * Config::kLanesN + n, sums[i]);
      }
    } else if constexpr (kKept == 1) {
      sums[0] += __shfl_xor_sync(0xffffffff, sums[0], kApart);
      fold<1, 2 * kApart>(first, gives && !upper, give);
    } else {
      constexpr int kHalf = kKept / 2;
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const float kept = upper ? sums[kHalf + i] : sums[i];
        const float sent = upper ? sums[i] : sums[kHalf + i];
        sums[i] = kept + __shfl_xor_sync(0xffffffff, sent, kApart);
      }
      fold<kHalf, 2 * kApart>(upper ? first + kHalf : first, gives, give);
    }
  }
};

}  // namespace fusedops::skinny_fp32
