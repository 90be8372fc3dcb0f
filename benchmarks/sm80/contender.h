#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

// One thing to time: y = z + scale * sigmoid(z) with z = x @ weight.T + bias, bias in x's dtype.
struct Operands {
  const void *x, *weight, *bias;
  void* out;
  int m, n, k;
  int64_t x_stride, w_stride;  // elements between rows
  float scale;
};

struct Contender {
  std::string family;  // "ours", "cutlass", "triton", "cublas"
  std::string name;
  int shared_memory;  // bytes a block
  std::function<cudaError_t(const Operands&)> launch;
};

std::vector<Contender> cutlass_bf16();
std::vector<Contender> cutlass_fp16_accumulation();
