#pragma once

#include "cuda/sm80_primitives.cuh"

// Where a warp's products are added up: atoms of 16 x 8 sums, four to a lane.

namespace fusedops::sm80 {

struct Float32Sums {
  static constexpr int kPromotionK = 0;  // never: products are added to the float32 sums themselves

  template <int kAtomsM, int kAtomsN>
  struct Warp {
    float sums[kAtomsM][kAtomsN][4] = {};

    template <class Element>
    __device__ __forceinline__ void multiply(int i, int j, const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1, Element element) {
      sm80::multiply(sums[i][j], a, b0, b1, element);
    }
    __device__ __forceinline__ void promote() {}
  };
};

// Chains of kPromotionK products in float16, which GeForce cards add at twice the rate, each then
// added to a float32 sum: the error of a chain does not grow with K, and a chain overflows only
// where kPromotionK products do.
struct PromotedFloat16Sums {
  static constexpr int kPromotionK = 64;

  template <int kAtomsM, int kAtomsN>
  struct Warp {
    float sums[kAtomsM][kAtomsN][4] = {};
    uint32_t chains[kAtomsM][kAtomsN][2] = {};

    __device__ __forceinline__ void multiply(int i, int j, const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1, __half element) {
      sm80::multiply(chains[i][j], a, b0, b1, element);
    }
    __device__ __forceinline__ void promote() {
#pragma unroll
      for (int i = 0; i < kAtomsM; ++i) {
#pragma unroll
        for (int j = 0; j < kAtomsN; ++j) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            uint32_t& chain = chains[i][j][half];
            const float2 pair = __half22float2(reinterpret_cast<const __half2&>(chain));
            sums[i][j][2 * half] += pair.x;
            sums[i][j][2 * half + 1] += pair.y;
            chain = 0;
          }
        }
      }
    }
  };
};

}  // namespace fusedops::sm80
