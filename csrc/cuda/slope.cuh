#pragma once

#include "cuda/epilogues.cuh"

namespace fusedops {

__device__ __forceinline__ float tanh_approximate(float value) {
  float result;
  asm("tanh.approx.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

// dy/dz of y = z + scale * sigmoid(z), for the elements of a thread, and sigmoid(z) where z is
// known: kSteps = 0. Else z is recovered from y in so many steps of Householder's third order, of
// which the last moves the slope and not z.
//
// The map is odd about z = 0: Y = y - scale / 2 is z + scale / 2 * tanh(z / 2), and the slope is
// even. So all of it is done for |Y| and z >= 0, where exp(-z) cannot overflow. What z is below |Y|
// is kept apart: no difference of infinities is ever taken, and an infinite y has slope 1. NaN
// stays NaN.
//
// Everything but the last step may be rough: the last makes its cube of an error. A pair of
// elements shares a reciprocal where those would otherwise take longer than the memory.
template <int kSteps>
class Slope {
 public:
  __device__ __forceinline__ explicit Slope(float scale)
      : scale_(scale), half_(0.5f * scale), guess_(1.0f / (2.0f + half_)) {}

  template <int kCount>
  __device__ __forceinline__ void operator()(const float (&y)[kCount], float (&slope)[kCount],
                                             float (&)[kCount]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) slope[i] = recovered(fabsf(y[i] - half_));
  }

 private:
  __device__ __forceinline__ float recovered(float y) const {
    float below = half_ * tanh_approximate(y * guess_);  // exact far out and, with its slope, at 0
    float z = y - below;
#pragma unroll
    for (int step = 1; step < kSteps; ++step) {
      const float tanh = tanh_approximate(0.5f * z);
      const float four_first = 1.0f - tanh * tanh;
      const float reciprocal = reciprocal_approximate(1.0f + 0.25f * scale_ * four_first);
      const float newton = (half_ * tanh - below) * reciprocal;
      const float bend = (four_first * tanh) * reciprocal * newton;
      const float move = newton * (1.0f - 0.125f * scale_ * bend);
      z -= move;
      below += move;
    }
    const float e = exp2_approximate(z * kMinusLog2E);
    const float sigmoid = reciprocal_approximate(1.0f + e);
    const float complement = e * sigmoid;
    const float first = complement * sigmoid;
    const float tanh = 1.0f - 2.0f * complement;
    const float reciprocal = reciprocal_approximate(1.0f + scale_ * first);
    const float newton = (half_ * tanh - below) * reciprocal;
    const float minus_second = first * tanh;
    const float bend = minus_second * reciprocal * newton;
    const float move = newton * (1.0f - half_ * bend);  // what z is too large by
    const float half_third = first * (0.5f - 3.0f * first);
    return 1.0f + scale_ * (first + move * (minus_second + move * half_third));
  }

  float scale_, half_, guess_;
};

template <>
class Slope<0> {
 public:
  __device__ __forceinline__ explicit Slope(float scale) : scale_(scale) {}

  template <int kCount>
  __device__ __forceinline__ void operator()(const float (&z)[kCount], float (&slope)[kCount],
                                             float (&sigmoid)[kCount]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float e = exp2_approximate(fabsf(z[i]) * kMinusLog2E);
      const float larger = reciprocal_approximate(1.0f + e);
      const float smaller = e * larger;
      slope[i] = 1.0f + scale_ * (larger * smaller);
      sigmoid[i] = z[i] < 0.0f ? smaller : larger;
    }
  }

 private:
  float scale_;
};

}  // namespace fusedops
