#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include "common/problem.h"

// For the rims only: everything else in csrc/ knows nothing of torch.
namespace fusedops {

inline DType dtype_of(const torch::stable::Tensor& tensor) {
  using torch::headeronly::ScalarType;
  switch (tensor.scalar_type()) {
    case ScalarType::Half:
      return DType::float16;
    case ScalarType::BFloat16:
      return DType::bfloat16;
    case ScalarType::Float:
      return DType::float32;
    case ScalarType::Double:
      return DType::float64;
    default:
      STD_TORCH_CHECK(false, "expected float16, bfloat16, float32 or float64");
  }
}

}  // namespace fusedops
