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
// Y = y - scale / 2 is z + scale / 2 * tanh(z / 2), which is odd in z; the slope is even. With t
// for the tanh, z = Y - scale / 2 * t: a guess of t is a guess of z, and what Newton's step
// corrects is tanh(z / 2) - t. So no infinities are subtracted, an infinite y has slope 1, and NaN
// stays NaN; exp only ever sees -|z|. The first guess, tanh(Y / (2 + scale / 2)), is exact far out
// and, with its slope, at 0; any step makes the cube of an error, so all but the last may be rough.
//
// Y and z are held in units of ln 2, since exp2 is what the card has. For 16-bit elements its unit
// for tanh, exp2 and reciprocals would take longer than the memory: so pairs of elements share a
// reciprocal, and are kept from sharing NaN (fmaxf and fminf drop it; t brings it back). For
// float32 the memory takes longer, and the two roundings more would show.
template <int kSteps, bool kShareReciprocals>
class Slope {
 public:
  __device__ __forceinline__ explicit Slope(float scale)
      : scale_(scale),
        half_(0.5f * kLog2E * scale),
        guess_(1.0f / (kLog2E * (2.0f + 0.5f * scale))),
        two_over_scale_(fminf(fmaxf(2.0f / scale, -kLargest), kLargest)) {}

  template <int kCount>
  __device__ __forceinline__ void operator()(const float (&y)[kCount], float (&slope)[kCount],
                                             float (&)[kCount]) const {
#pragma unroll
    for (int i = 0; i < kCount; i += 2) {
      const float pair[2] = {y[i] * kLog2E - half_, y[i + 1] * kLog2E - half_};
      float recovered[2];
      recover(pair, recovered);
      slope[i] = recovered[0];
      slope[i + 1] = recovered[1];
    }
  }

 private:
  static constexpr float kLog2E = -kMinusLog2E;
  static constexpr float kLargest = 1e15f;  // its square is a float

  __device__ __forceinline__ static void invert(const float (&values)[2], float (&result)[2]) {
    if constexpr (kShareReciprocals) {
      reciprocals(values, result);
    } else {
      result[0] = reciprocal_approximate(values[0]);
      result[1] = reciprocal_approximate(values[1]);
    }
  }

  __device__ __forceinline__ void recover(const float (&y)[2], float (&slope)[2]) const {
    float t[2], z[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      t[i] = tanh_approximate(y[i] * guess_);
      z[i] = y[i] - half_ * t[i];
    }
#pragma unroll
    for (int step = 1; step < kSteps; ++step) {
      float tanh[2], four_first[2], rough_slope[2], reciprocal[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        tanh[i] = tanh_approximate(z[i] * (0.5f / kLog2E));
        four_first[i] = 1.0f - tanh[i] * tanh[i];
        rough_slope[i] = 1.0f + 0.25f * scale_ * fminf(four_first[i], 1.0f);
      }
      invert(rough_slope, reciprocal);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float newton = (tanh[i] - t[i]) * reciprocal[i];
        const float bend = four_first[i] * tanh[i] * reciprocal[i] * newton;
        t[i] += newton * (1.0f - scale_ * scale_ / 16.0f * bend);
        z[i] = y[i] - half_ * t[i];
      }
    }
    float denominator[2], sigmoid[2], first[2], reciprocal[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      denominator[i] = 1.0f + exp2_approximate(fmaxf(-fabsf(z[i]), -kLargest));
    }
    invert(denominator, sigmoid);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      first[i] = sigmoid[i] - sigmoid[i] * sigmoid[i];  // derivative of sigmoid
      denominator[i] = 2.0f * first[i] + two_over_scale_;
    }
    invert(denominator, reciprocal);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float tanh = 2.0f * sigmoid[i] - 1.0f;
      const float newton = (tanh - fabsf(t[i])) * reciprocal[i];  // what |z| is too large by
      const float third_order = 0.5f - 3.0f * first[i] - first[i] * tanh * reciprocal[i] * tanh;
      slope[i] = 1.0f + scale_ * (first[i] * (1.0f + newton * (tanh + newton * third_order)));
    }
  }

  float scale_, half_, guess_, two_over_scale_;
};

template <bool kShareReciprocals>
class Slope<0, kShareReciprocals> {
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
