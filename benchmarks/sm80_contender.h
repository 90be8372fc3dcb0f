#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

// What benchmarks/sm80_contest.cu times against one another: y = z + scale * sigmoid(z) with
// z = x @ weight.T + bias, the bias in x's dtype.
struct Operands {
  const void *x, *weight, *bias;
  void* out;
  int m, n, k;
  int64_t x_stride, w_stride;  // elements between rows
  float scale;
};

struct Contender {
  std::string name;
  int shared_memory;  // bytes a block
  std::function<cudaError_t(const Operands&)> launch;
};
