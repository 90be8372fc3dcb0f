#pragma once

namespace fusedops {

constexpr float kMinusLog2E = -1.4426950408889634f;

__device__ __forceinline__ float exp2_approximate(float exponent) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(exponent));
  return result;
}

__device__ __forceinline__ float reciprocal_approximate(float value) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

// 1 / (1 + exp(-z)). For z = -inf the exponential is +inf and the reciprocal 0; NaN stays NaN.
__device__ __forceinline__ float sigmoid(float z) {
  return reciprocal_approximate(1.0f + exp2_approximate(z * kMinusLog2E));
}

// Four at once, with one reciprocal: of the product of the four denominators, which is kept finite
// by taking sigmoid for 2^-31 at least. For NaN the result is some number: the caller adds z.
__device__ __forceinline__ void sigmoid(const float (&z)[4], float (&result)[4]) {
  constexpr float kLargestExponent = 31.0f;
  float denominator[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    denominator[i] = 1.0f + exp2_approximate(fminf(z[i] * kMinusLog2E, kLargestExponent));
  }
  const float left = denominator[0] * denominator[1];
  const float right = denominator[2] * denominator[3];
  const float reciprocal = reciprocal_approximate(left * right);
  const float of_left = reciprocal * right;
  const float of_right = reciprocal * left;
  result[0] = of_left * denominator[1];
  result[1] = of_left * denominator[0];
  result[2] = of_right * denominator[3];
  result[3] = of_right * denominator[2];
}

// An epilogue is a pure function of (accumulator, bias), built from the operator's scalar.

// z = acc + bias;  y = z + scale * sigmoid(z)
struct SigmoidResidual {
  float scale;

  __device__ __forceinline__ float operator()(float accumulator, float bias) const {
    const float z = accumulator + bias;
    return z + scale * sigmoid(z);
  }

  // In place, for four outputs at once. Their roundings depend on each other: the four must be the
  // same ones wherever a row is computed.
  __device__ __forceinline__ void operator()(float (&values)[4], const float (&bias)[4]) const {
    float sigmoids[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] += bias[i];
    sigmoid(values, sigmoids);
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] += scale * sigmoids[i];
  }
};

}  // namespace fusedops
