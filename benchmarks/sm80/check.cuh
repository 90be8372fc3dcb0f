#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math_constants.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "contender.h"

// Operands amid NaNs, an output amid canaries, and the bound of docs/numerics.md.

#define CHECK(call)                                                          \
  do {                                                                       \
    const cudaError_t error_ = (call);                                       \
    if (error_ != cudaSuccess) {                                             \
      std::printf("CUDA ERROR %s: %s\n", #call, cudaGetErrorString(error_)); \
      std::fflush(stdout);                                                   \
      std::_Exit(3);                                                         \
    }                                                                        \
  } while (0)

__device__ inline uint32_t mixed(uint64_t value) {
  value = (value ^ value >> 33) * 0xff51afd7ed558ccdULL;
  value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ULL;
  return static_cast<uint32_t>(value ^ value >> 33);
}

// positive: truncation adds up. tiny: float16 sums underflow, and nothing hides it (scale 0).
enum class Kind { normal, positive, tiny };

// rows x columns of random numbers at a row stride; NaN between and around them.
template <class T>
__global__ void fill(T* data, int64_t rows, int64_t columns, int64_t stride, float sigma,
                     uint64_t seed, Kind kind) {
  for (int64_t i = blockIdx.x * int64_t{256} + threadIdx.x; i < (rows + 2) * stride;
       i += gridDim.x * 256LL) {
    const int64_t row = i / stride - 1, column = i % stride;
    const float u = (mixed(2 * i + (seed << 40)) >> 8) * 0x1p-24f + 0x1p-25f;
    const float v = (mixed(2 * i + 1 + (seed << 40)) >> 8) * 0x1p-24f;
    float value = kind == Kind::positive ? v : sqrtf(-2 * logf(u)) * cospif(2 * v);
    if (kind == Kind::tiny) value *= 1e-3f;
    const bool inside = row >= 0 && row < rows && column < columns;
    data[i] = T(inside ? sigma * value : CUDART_NAN_F);
  }
}

// A kernel's part of the bound.
struct Bound {
  double unit_roundoff, chain, spacing;
};

// The largest error over the bound, over `samples` elements; infinity for NaN.
template <class T>
__global__ void compare(Operands o, double u_out, Bound b, int64_t samples, int64_t step,
                        unsigned long long* worst) {
  const double smallest_subnormal = std::is_same_v<T, __half> ? 0x1p-24 : 0x1p-133;
  const T *x = (const T*)o.x, *w = (const T*)o.weight, *bias = (const T*)o.bias;
  for (int64_t i = blockIdx.x * int64_t{256} + threadIdx.x; i < samples; i += gridDim.x * 256LL) {
    const int64_t at = i * step % (int64_t(o.m) * o.n), row = at / o.n, column = at % o.n;
    double z = double(float(bias[column])), magnitude = fabs(z);
    for (int64_t k = 0; k < o.k; ++k) {
      const double product =
          double(float(x[row * o.x_stride + k])) * double(float(w[column * o.w_stride + k]));
      z += product;
      magnitude += fabs(product);
    }
    const double sigmoid = 1 / (1 + exp(-z)), want = z + o.scale * sigmoid;
    const double growth = 4 * sqrt(o.k + 2.0) + b.chain * o.k;
    const double bound = u_out * fabs(want) +
                         (1 + fabs(o.scale) / 4) * (growth * b.unit_roundoff * magnitude +
                                                    (o.k + 15) / 16 * b.spacing / 2) +
                         8 * 0x1p-24 * fabs(o.scale) * sigmoid + smallest_subnormal;
    const double error = fabs(double(float(((const T*)o.out)[at])) - want) / bound;
    atomicMax(worst, __double_as_longlong(error >= 0 ? error : CUDART_INF));
  }
}

template <class T>
struct Data {
  static constexpr int64_t kCanary = 4096;
  T *x, *w, *bias, *out;
  Operands operands;

  Data(int m, int n, int k, int pad, Kind kind = Kind::normal) {
    const int64_t sx = (k + 7) / 8 * 8 + pad, sw = (k + 7) / 8 * 8 + pad / 16 * 8;
    const int64_t sb = (n + 7) / 8 * 8;
    CHECK(cudaMalloc(&x, (m + 2) * sx * sizeof(T)));
    CHECK(cudaMalloc(&w, (n + 2) * sw * sizeof(T)));
    CHECK(cudaMalloc(&bias, 3 * sb * sizeof(T)));
    CHECK(cudaMalloc(&out, (int64_t(m) * n + 2 * kCanary) * sizeof(T)));
    fill<<<1024, 256>>>(x, m, k, sx, 1.0f, 1, kind);
    fill<<<1024, 256>>>(w, n, k, sw, 1.0f / std::sqrt(float(k)), 2, kind);
    fill<<<64, 256>>>(bias, 1, n, sb, 1.0f, 3, kind);
    operands = {x + sx,    w + sw,
                bias + sb, out + kCanary,
                m,         n,
                k,         sx,
                sw,        kind == Kind::tiny ? 0.0f : 2.0f};
    CHECK(cudaDeviceSynchronize());
  }
  ~Data() {
    for (T* each : {x, w, bias, out}) cudaFree(each);
  }
};

// NaN where an element was not written, something outside was, or a second launch differs.
template <class T>
double worst_error(const Contender& contender, const Data<T>& data, Bound bound) {
  const Operands& o = data.operands;
  const int64_t count = int64_t(o.m) * o.n, guarded = count + 2 * Data<T>::kCanary;
  CHECK(cudaMemset(data.out, 0xFF, guarded * 2));
  CHECK(contender.launch(o));
  CHECK(cudaDeviceSynchronize());
  std::vector<uint16_t> bits(guarded), again(guarded);
  CHECK(cudaMemcpy(bits.data(), data.out, guarded * 2, cudaMemcpyDeviceToHost));
  for (int64_t i = 0; i < guarded; ++i) {
    const bool inside = i >= Data<T>::kCanary && i < count + Data<T>::kCanary;
    if (inside == (bits[i] == 0xFFFF)) return NAN;
  }
  CHECK(contender.launch(o));
  CHECK(cudaMemcpy(again.data(), data.out, guarded * 2, cudaMemcpyDeviceToHost));
  if (bits != again) return NAN;
  unsigned long long* worst;
  CHECK(cudaMalloc(&worst, sizeof(*worst)));
  CHECK(cudaMemset(worst, 0, sizeof(*worst)));
  const int64_t samples = std::min<int64_t>(count, int64_t(4e8 / o.k));
  compare<T><<<2048, 256>>>(o, std::is_same_v<T, __half> ? 0x1p-11 : 0x1p-8, bound, samples,
                            samples == count ? 1 : 1000003, worst);
  double result;
  CHECK(cudaMemcpy(&result, worst, sizeof(result), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(worst));
  return result;
}
