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

// One over each of several numbers, with the one instruction for their product.
__device__ __forceinline__ void reciprocals(const float (&values)[2], float (&result)[2]) {
  const float reciprocal = reciprocal_approximate(values[0] * values[1]);
  result[0] = reciprocal * values[1];
  result[1] = reciprocal * values[0];
}

__device__ __forceinline__ void reciprocals(const float (&values)[4], float (&result)[4]) {
  const float left = values[0] * values[1], right = values[2] * values[3];
  const float reciprocal = reciprocal_approximate(left * right);
  const float of_left = reciprocal * right, of_right = reciprocal * left;
  result[0] = of_left * values[1];
  result[1] = of_left * values[0];
  result[2] = of_right * values[3];
  result[3] = of_right * values[2];
}

// An epilogue is a pure function of (accumulator, bias), built from the operator's scalar.

// z = acc + bias
struct Linear {
  __device__ __forceinline__ float operator()(float accumulator, float bias) const {
    return accumulator + bias;
  }
};

// z = acc + bias;  y = z + scale * sigmoid(z)
struct SigmoidResidual {
  float scale;

  __device__ __forceinline__ float operator()(float accumulator, float bias) const {
    const float z = accumulator + bias;
    return z + scale * sigmoid(z);
  }

  // For many outputs of a thread, in groups of two or four that share a reciprocal. Their roundings
  // depend on each other: groups must be the same ones of a row wherever it is computed. The
  // product of the denominators is kept finite by taking sigmoid for 2^-31 at least; NaN comes back
  // with z.
  //
  // In two steps, so that the caller has something to put between them while the exponentials,
  // which are slow, finish. `work` is what the second step needs of the first.
  template <int kGroups, int kCount>
  __device__ __forceinline__ void start(float (&values)[kGroups][kCount],
                                        const float (&bias)[kGroups][kCount],
                                        float (&work)[kGroups][kCount]) const {
    constexpr float kLargestExponent = 31.0f;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        values[group][i] += bias[group][i];
        work[group][i] = exp2_approximate(fminf(values[group][i] * kMinusLog2E, kLargestExponent));
      }
    }
  }

  template <int kGroups, int kCount>
  __device__ __forceinline__ void finish(float (&values)[kGroups][kCount],
                                         float (&work)[kGroups][kCount]) const {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      float denominators[kCount];
#pragma unroll
      for (int i = 0; i < kCount; ++i) denominators[i] = 1.0f + work[group][i];
      reciprocals(denominators, work[group]);
    }
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[group][i] += scale * work[group][i];
    }
  }
};

// The epilogue of a launch whose scale may be in memory, there to be read when the kernel runs.
struct LaunchedSigmoidResidual {
  float scale;
  const float* in_memory;  // null: `scale` it is

  __device__ __forceinline__ SigmoidResidual operator()() const {
    return {in_memory == nullptr ? scale : *in_memory};
  }
};

}  // namespace fusedops
