#pragma once

namespace fusedops {

// 1 / (1 + exp(-z)). For z = -inf the exponential is +inf and the reciprocal 0; NaN stays NaN.
__device__ __forceinline__ float sigmoid(float z) {
  constexpr float kMinusLog2E = -1.4426950408889634f;
  float exponential, reciprocal;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(exponential) : "f"(z * kMinusLog2E));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(1.0f + exponential));
  return reciprocal;
}

// An epilogue is a pure function of (accumulator, bias), built from the operator's scalar.

// z = acc + bias;  y = z + scale * sigmoid(z)
struct SigmoidResidual {
  float scale;

  __device__ __forceinline__ float operator()(float accumulator, float bias) const {
    const float z = accumulator + bias;
    return z + scale * sigmoid(z);
  }
};

}  // namespace fusedops
