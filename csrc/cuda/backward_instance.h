#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/problem.h"
#include "cuda/instance.h"

namespace fusedops {

struct BackwardArgs {
  const void* grad;
  const void* saved;
  double scale;
  const void* device_scale;  // null: scale is the number
  void* dz;                  // null where not wanted, as the next two
  void* dbias;
  void* dscale;
  void* partials;  // of the workspace's size
  void* counters;  // zero, and zero again afterwards
  BackwardProblem problem;
  int multiprocessors;
  cudaStream_t stream;
};

// What the blocks of a launch need to meet in.
struct Workspace {
  int64_t partials;  // floats
  int64_t counters;  // 32-bit words
};

// The compiled kernel of one dtype.
struct BackwardInstance {
  const char* kernel;  // the registry's name
  const char* label;
  DType dtype;
  int min_capability;
  int threads;
  Accumulation accumulation;
  std::vector<std::string> (*why_not)(const BackwardInstance&, const BackwardProblem&);
  Workspace (*workspace)(const BackwardProblem&, int multiprocessors);
  cudaError_t (*launch)(const BackwardArgs&);
  const void* entry;
  const char* entry_symbol;
};

FUSEDOPS_EXPORT const std::vector<BackwardInstance>& backward_instances();

}  // namespace fusedops
