#include "cuda/predicates.h"

namespace fusedops {
namespace {

constexpr int kVectorBytes = 16;

std::string capability_text(int capability) {
  return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
}

// Strides along a dimension of one element are never followed.
void check_along_k(const char* operand, int64_t k, int64_t stride_k,
                   std::vector<std::string>& reasons) {
  if (k > 1 && stride_k != 1) {
    reasons.push_back(std::string(operand) + " needs unit stride along K, not " +
                      std::to_string(stride_k));
  }
}

void check_rows(const char* operand, int64_t rows, int64_t stride_row, int element_size,
                std::vector<std::string>& reasons) {
  const int64_t vector = kVectorBytes / element_size;
  if (rows > 1 && stride_row % vector != 0) {
    reasons.push_back(std::string(operand) + " needs 16-byte aligned rows: its row stride, " +
                      std::to_string(stride_row) + " elements, is not a multiple of " +
                      std::to_string(vector));
  }
}

}  // namespace

std::vector<std::string> capability_reasons(int least, int most, int capability) {
  if (capability == 0) return {"it needs an NVIDIA GPU"};
  if (capability < least) {
    return {"it needs compute capability " + capability_text(least) + " or newer, not " +
            capability_text(capability)};
  }
  if (capability > most) {
    return {"it needs compute capability " + capability_text(most) + " or older, not " +
            capability_text(capability)};
  }
  return {};
}

std::vector<std::string> common_reasons(const Instance& instance, const Problem& problem) {
  std::vector<std::string> reasons =
      capability_reasons(instance.min_capability, instance.max_capability, problem.capability);
  if (problem.dtype != instance.dtype) {
    reasons.push_back(std::string("it computes ") + name(instance.dtype) + ", not " +
                      name(problem.dtype));
  }
  if (problem.bias_dtype && *problem.bias_dtype != instance.dtype &&
      *problem.bias_dtype != DType::float32) {
    const bool wide = instance.dtype == DType::float32;
    reasons.push_back(std::string("the bias must be ") + name(instance.dtype) +
                      (wide ? "" : " or float32") + ", not " + name(*problem.bias_dtype));
  }
  return reasons;
}

std::vector<std::string> rows_along_k_reasons(const Instance& instance, const Problem& problem) {
  std::vector<std::string> reasons = common_reasons(instance, problem);
  check_along_k("x", problem.k, problem.x_stride_k, reasons);
  check_along_k("weight", problem.k, problem.w_stride_k, reasons);
  return reasons;
}

std::vector<std::string> tensor_core_reasons(const Instance& instance, const Problem& problem) {
  std::vector<std::string> reasons = rows_along_k_reasons(instance, problem);
  const int element_size = size_of(instance.dtype);
  check_rows("x", problem.m, problem.x_stride_m, element_size, reasons);
  check_rows("weight", problem.n, problem.w_stride_n, element_size, reasons);
  if (problem.alignment < kVectorBytes) {
    reasons.push_back("operands must start at 16-byte boundaries, not " +
                      std::to_string(problem.alignment) + "-byte ones");
  }
  return reasons;
}

}  // namespace fusedops
