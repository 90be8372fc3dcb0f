#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "common/problem.h"

namespace fusedops {

// Adjacent elements of a row, as a thread reads and writes them.
template <class Element, int kElements>
struct alignas(kElements * sizeof(Element)) Vector {
  static constexpr int kCount = kElements;
  Element elements[kCount];
};

template <int kCount>
__device__ __forceinline__ void widen(const Vector<float, kCount>& from, float (&to)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = from.elements[i];
}

template <int kCount>
__device__ __forceinline__ void widen(const Vector<__half, kCount>& from, float (&to)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = __half2float(from.elements[i]);
}

template <int kCount>
__device__ __forceinline__ void widen(const Vector<__nv_bfloat16, kCount>& from,
                                      float (&to)[kCount]) {
  const auto* pairs = reinterpret_cast<const uint32_t*>(from.elements);
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    to[2 * i] = __uint_as_float(pairs[i] << 16);
    to[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
  }
}

template <int kCount>
__device__ __forceinline__ void narrow(const float (&from)[kCount], Vector<float, kCount>& to) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) to.elements[i] = from[i];
}

template <int kCount>
__device__ __forceinline__ void narrow(const float (&from)[kCount], Vector<__half, kCount>& to) {
  auto* pairs = reinterpret_cast<__half2*>(to.elements);
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    pairs[i] = __floats2half2_rn(from[2 * i], from[2 * i + 1]);
  }
}

template <int kCount>
__device__ __forceinline__ void narrow(const float (&from)[kCount],
                                       Vector<__nv_bfloat16, kCount>& to) {
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(to.elements);
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    pairs[i] = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
  }
}

// Read once and not again: first to leave the caches.
__device__ __forceinline__ void load_once(const void* from, uint4& to) {
  to = __ldcs(static_cast<const uint4*>(from));
}

__device__ __forceinline__ void load_once(const void* from, uint2& to) {
  to = __ldcs(static_cast<const uint2*>(from));
}

// A result whose dtype is known only at run time.
__device__ __forceinline__ void store_as(DType dtype, void* data, int64_t index, float value) {
  switch (dtype) {
    case DType::float16:
      static_cast<__half*>(data)[index] = __float2half_rn(value);
      return;
    case DType::bfloat16:
      static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(value);
      return;
    case DType::float32:
      static_cast<float*>(data)[index] = value;
      return;
    case DType::float64:
      static_cast<double*>(data)[index] = value;
  }
}

// A number read as the float nearest to it.
__device__ __forceinline__ float load_as(DType dtype, const void* data) {
  switch (dtype) {
    case DType::float16:
      return __half2float(*static_cast<const __half*>(data));
    case DType::bfloat16:
      return __bfloat162float(*static_cast<const __nv_bfloat16*>(data));
    case DType::float32:
      return *static_cast<const float*>(data);
    default:
      return static_cast<float>(*static_cast<const double*>(data));
  }
}

}  // namespace fusedops
