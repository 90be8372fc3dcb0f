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
// Y = y - scale / 2 is z + scale / 2 * tanh(z / 2), which is odd in z; the slope is even. With t for
// the tanh, z = Y - scale / 2 * t: a guess of t is a guess of z, and what Newton's step corrects is
// tanh(z / 2) - t. So no infinities are subtracted, an infinite y has slope 1, and NaN stays NaN;
// exp only ever sees -|z|. The first guess, tanh(Y / (2 + scale / 2)), is exact far out and, with
// its slope, at 0; any step makes the cube of an error, so all but the last may be rough.
//
// Y and z are held in units of ln 2, since exp2 is what the card has.
template <int kSteps>
class Slope {
 public:
  __device__ __forceinline__ explicit Slope(float scale)
      : scale_(scale),
        half_(0.5f * kLog2E * scale),
        guess_(1.0f / (kLog2E * (2.0f + 0.5f * scale))),
        two_over_scale_(2.0f / scale) {}

  template <int kCount>
  __device__ __forceinline__ void operator()(const float (&y)[kCount], float (&slope)[kCount],
                                             float (&)[kCount]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) slope[i] = recovered(y[i] * kLog2E - half_);
  }

 private:
  static constexpr float kLog2E = -kMinusLog2E;

  __device__ __forceinline__ float recovered(float y) const {
    float t = tanh_approximate(y * guess_);
    float z = y - half_ * t;
#pragma unroll
    for (int step = 1; step < kSteps; ++step) {
      const float tanh = tanh_approximate(z * (0.5f / kLog2E));
      const float four_first = 1.0f - tanh * tanh;
      const float reciprocal = reciprocal_approximate(1.0f + 0.25f * scale_ * four_first);
      const float newton = (tanh - t) * reciprocal;
      const float bend = four_first * tanh * reciprocal * newton;
      t += newton * (1.0f - scale_ * scale_ / 16.0f * bend);
      z = y - half_ * t;
    }
    const float sigmoid = reciprocal_approximate(1.0f + exp2_approximate(-fabsf(z)));
    const float first = sigmoid - sigmoid * sigmoid;  // derivative of sigmoid
    const float tanh = 2.0f * sigmoid - 1.0f;
    const float reciprocal = reciprocal_approximate(2.0f * first + two_over_scale_);
    const float newton = (tanh - fabsf(t)) * reciprocal;  // what |z| is too large by
    const float third_order = 0.5f - 3.0f * first - first * tanh * reciprocal * tanh;
    return 1.0f + scale_ * (first * (1.0f + newton * (tanh + newton * third_order)));
  }

  float scale_, half_, guess_, two_over_scale_;
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
