#pragma once

#include <cstdint>
#include <optional>

namespace fusedops {

enum class DType { float16, bfloat16, float32, float64 };

constexpr const char* name(DType dtype) {
  switch (dtype) {
    case DType::float16:
      return "float16";
    case DType::bfloat16:
      return "bfloat16";
    case DType::float32:
      return "float32";
    case DType::float64:
      return "float64";
  }
  return "unknown";
}

constexpr int size_of(DType dtype) {
  switch (dtype) {
    case DType::float16:
    case DType::bfloat16:
      return 2;
    case DType::float32:
      return 4;
    case DType::float64:
      return 8;
  }
  return 0;
}

// out[m, n] = epilogue(sum_k x[m, k] * weight[n, k], bias[n]); out is contiguous.
struct Problem {
  int64_t m, n, k;
  DType dtype;
  std::optional<DType> bias_dtype;
  int64_t x_stride_m, x_stride_k, w_stride_n, w_stride_k;  // elements
  int alignment;   // bytes, the largest power of two up to 16 that divides every operand's address
  int capability;  // 10 * major + minor; 0 on a CPU
  bool allow_tf32, allow_fp16_accumulation;  // what the user lets PyTorch's own matmul do
};

// dz = grad * dy/dz over contiguous (m, n) matrices of one dtype, the sums of dz's columns and that
// of grad * sigmoid(z). `steps` find z from y; with 0, z itself is what was saved.
struct BackwardProblem {
  int64_t m, n;
  DType dtype;
  int steps;
  std::optional<DType> bias_dtype;   // that of the sums; none: not wanted
  std::optional<DType> scale_dtype;  // that of the scale's gradient, and of a scale on the device
  bool wants_dscale;
  int capability;  // 10 * major + minor; 0 on a CPU
};

}  // namespace fusedops
