#include "cuda/skinny_fp32_instances.cuh"

namespace {

using fusedops::skinny_fp32::Anywhere;

template <int>
using Exchange = fusedops::skinny_fp32::WithinBlock;

}  // namespace

#define FUSEDOPS_SKINNY_FP32_CONFIGS(APPLY, ...)         \
  APPLY(__VA_ARGS__, , 4, 1, 64, 64, 5, 1, 4, 1, 1)      \
  APPLY(__VA_ARGS__, , 4, 1, 32, 128, 5, 1, 2, 2, 1)     \
  APPLY(__VA_ARGS__, , 4, 1, 16, 256, 5, 1, 1, 4, 1)     \
  APPLY(__VA_ARGS__, , 4, 1, 8, 256, 5, 1, 1, 4, 1)      \
  APPLY(__VA_ARGS__, , 4, 4, 64, 64, 5, 4, 4, 1, 1)      \
  APPLY(__VA_ARGS__, , 4, 4, 32, 128, 5, 4, 2, 2, 1)     \
  APPLY(__VA_ARGS__, , 4, 4, 16, 256, 4, 4, 1, 4, 1)     \
  APPLY(__VA_ARGS__, , 4, 8, 64, 64, 4, 4, 2, 2, 1)      \
  APPLY(__VA_ARGS__, , 4, 8, 32, 128, 4, 4, 1, 4, 1)     \
  APPLY(__VA_ARGS__, , 4, 8, 32, 64, 4, 4, 2, 2, 1)      \
  APPLY(__VA_ARGS__, , 4, 8, 16, 128, 4, 4, 1, 4, 1)     \
  APPLY(__VA_ARGS__, , 4, 16, 64, 64, 4, 8, 2, 2, 1)     \
  APPLY(__VA_ARGS__, , 4, 16, 32, 128, 3, 8, 1, 4, 1)    \
  APPLY(__VA_ARGS__, , 4, 16, 32, 64, 6, 8, 2, 2, 1)     \
  APPLY(__VA_ARGS__, , 4, 16, 16, 128, 5, 8, 1, 4, 1)    \
  APPLY(__VA_ARGS__, , 4, 32, 32, 64, 5, 16, 2, 2, 1)    \
  APPLY(__VA_ARGS__, _any, 1, 1, 64, 64, 5, 1, 4, 1, 1)  \
  APPLY(__VA_ARGS__, _any, 1, 8, 32, 64, 4, 4, 2, 2, 1)  \
  APPLY(__VA_ARGS__, _any, 1, 16, 64, 64, 4, 8, 2, 2, 1) \
  APPLY(__VA_ARGS__, _any, 1, 32, 32, 64, 5, 16, 2, 2, 1)

FUSEDOPS_SKINNY_FP32_CONFIGS(FUSEDOPS_SKINNY_FP32_KERNEL, Exchange, Anywhere)

namespace fusedops {

std::vector<Instance> skinny_fp32_instances() {
  return {FUSEDOPS_SKINNY_FP32_CONFIGS(FUSEDOPS_SKINNY_FP32_INSTANCE, Exchange, Anywhere)};
}

}  // namespace fusedops
