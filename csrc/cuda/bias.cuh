#pragma once

#include <cstdint>

#include "common/problem.h"

namespace fusedops {

enum class BiasKind : int { none, operand, float32 };

inline BiasKind bias_kind(const void* bias, const Problem& problem) {
  if (bias == nullptr || !problem.bias_dtype) return BiasKind::none;
  return *problem.bias_dtype == DType::float32 ? BiasKind::float32 : BiasKind::operand;
}

// A contiguous bias whose type is known only at run time, read as float.
template <class Element>
struct Bias {
  const void* data;
  BiasKind kind;

  __device__ __forceinline__ float operator[](int64_t column) const {
    if (kind == BiasKind::operand) {
      return static_cast<float>(static_cast<const Element*>(data)[column]);
    }
    if (kind == BiasKind::float32) return static_cast<const float*>(data)[column];
    return 0.0f;
  }
};

}  // namespace fusedops
