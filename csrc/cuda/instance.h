#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "common/problem.h"

namespace fusedops {

inline constexpr int kNoMaximum = 999;  // a max_capability

struct GemmArgs {
  const void* x;
  const void* weight;
  const void* bias;  // null: no bias
  void* out;
  void* z;  // as out, for z; null: not wanted
  double scale;
  const float* scale_in_memory;  // null: `scale` it is
  Problem problem;
  int multiprocessors;
  cudaStream_t stream;
};

// A kernel's part of the error bound: docs/numerics.md.
struct Accumulation {
  double unit_roundoff;
  double chain;        // what tensor-core truncation loses per term, in unit roundoffs
  double spacing = 0;  // between the accumulator's subnormal numbers, where operands reach them
};

inline constexpr Accumulation kTensorCoreChain{0x1p-24, 1.0 / 8};  // 16-bit products, fp32 sums
inline constexpr Accumulation kPromotedFloat16Chain{0x1p-13, 0, 0x1p-24};  // float16 chains of 64

// One compiled kernel: one name, one tile, one dtype.
struct Instance {
  const char* kernel;  // the registry's name: "cuda.sm80_multistage"
  const char* label;   // unique within the kernel: "bf16_128x128x32_s4"
  DType dtype;
  int min_capability, max_capability;  // inclusive
  int tile_m, tile_n, tile_k;
  int stages;
  int threads;        // a block
  int shared_memory;  // dynamic, bytes a block
  Accumulation accumulation;
  // Names the order in which the products of a row are added. Instances of one name and dtype give
  // a row the same bits, whatever their tile, the other rows and M.
  const char* summation;
  // Every reason this instance cannot run the problem; empty means it can.
  std::vector<std::string> (*why_not)(const Instance&, const Problem&);
  cudaError_t (*launch)(const GemmArgs&);
  const void* entry;                 // the __global__ function
  const char* entry_symbol;          // its name as ptxas reports it, hence extern "C"
  int cluster_m = 1, cluster_n = 1;  // tiles whose blocks share operands
  bool for_gradients = false;        // writes z where it is wanted, and reads a scale in memory
};

#if defined(__GNUC__)
#define FUSEDOPS_EXPORT __attribute__((visibility("default")))
#else
#define FUSEDOPS_EXPORT
#endif

// The position in this list is the `instance` argument of fusedops_cuda::launch.
FUSEDOPS_EXPORT const std::vector<Instance>& instances();

FUSEDOPS_EXPORT const char* error_string(cudaError_t error);

// Of the current device; 0 when it cannot be asked.
FUSEDOPS_EXPORT int multiprocessor_count();

std::vector<Instance> sm80_instances();
std::vector<Instance> skinny_instances();
std::vector<Instance> skinny_fp32_instances();
std::vector<Instance> simt_instances();
// Present when FUSEDOPS_SM90 is defined.
std::vector<Instance> sm90_instances();
std::vector<Instance> sm90_skinny_instances();
std::vector<Instance> sm90_skinny_fp32_instances();
std::vector<Instance> sm90_fp32_instances();
std::vector<Instance> sm90_tf32_instances();

}  // namespace fusedops
