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

  __device__ __forceinline__ float operator[](int64_t column) const { return value(bits(column)); }

  // The two halves of a read, for a caller with work to do while the load is in flight.
  __device__ __forceinline__ uint32_t bits(int64_t column) const {
    if (kind == BiasKind::float32) return static_cast<const uint32_t*>(data)[column];
    if (kind == BiasKind::operand && sizeof(Element) == 2) {
      return static_cast<const uint16_t*>(data)[column];
    }
    if (kind == BiasKind::operand) return static_cast<const uint32_t*>(data)[column];
    return 0;
  }

  __device__ __forceinline__ float value(uint32_t bits) const {
    if (kind == BiasKind::operand)
      return static_cast<float>(reinterpret_cast<const Element&>(bits));
    return __uint_as_float(bits);
  }
};

}  // namespace fusedops
