#include <type_traits>

#include "cuda/skinny_fp32_instances.cuh"
#include "cuda/sm90_skinny_fp32.cuh"

namespace {

using fusedops::skinny_fp32::OnHopper;

template <int kBlocks>
using Exchange = std::conditional_t<kBlocks == 1, fusedops::skinny_fp32::WithinBlock,
                                    fusedops::sm90::WithinCluster<kBlocks>>;

}  // namespace

#define FUSEDOPS_SM90_SKINNY_FP32_CONFIGS(APPLY, ...)  \
  APPLY(__VA_ARGS__, , 4, 1, 32, 128, 5, 1, 2, 2, 2)   \
  APPLY(__VA_ARGS__, , 4, 1, 16, 256, 5, 1, 1, 4, 2)   \
  APPLY(__VA_ARGS__, , 4, 1, 8, 256, 5, 1, 1, 4, 2)    \
  APPLY(__VA_ARGS__, , 4, 1, 64, 64, 5, 1, 4, 1, 8)    \
  APPLY(__VA_ARGS__, , 4, 4, 64, 64, 5, 4, 4, 1, 2)    \
  APPLY(__VA_ARGS__, , 4, 4, 64, 64, 5, 4, 4, 1, 8)    \
  APPLY(__VA_ARGS__, , 4, 4, 32, 128, 5, 4, 2, 2, 2)   \
  APPLY(__VA_ARGS__, , 4, 4, 16, 256, 4, 4, 1, 4, 2)   \
  APPLY(__VA_ARGS__, , 4, 8, 32, 64, 4, 4, 2, 2, 2)    \
  APPLY(__VA_ARGS__, , 4, 8, 32, 128, 4, 4, 1, 4, 2)   \
  APPLY(__VA_ARGS__, , 4, 8, 64, 64, 4, 4, 2, 2, 8)    \
  APPLY(__VA_ARGS__, , 4, 8, 64, 128, 4, 4, 2, 4, 1)   \
  APPLY(__VA_ARGS__, , 4, 8, 64, 128, 4, 4, 2, 4, 2)   \
  APPLY(__VA_ARGS__, , 4, 8, 72, 64, 6, 8, 4, 1, 8)    \
  APPLY(__VA_ARGS__, , 4, 8, 16, 256, 4, 4, 1, 8, 2)   \
  APPLY(__VA_ARGS__, , 4, 8, 32, 256, 4, 4, 1, 8, 1)   \
  APPLY(__VA_ARGS__, , 4, 8, 8, 256, 5, 4, 1, 8, 1)    \
  APPLY(__VA_ARGS__, , 4, 16, 64, 64, 4, 8, 2, 2, 2)   \
  APPLY(__VA_ARGS__, , 4, 16, 64, 128, 3, 8, 2, 4, 1)  \
  APPLY(__VA_ARGS__, , 4, 16, 64, 128, 3, 8, 2, 4, 2)  \
  APPLY(__VA_ARGS__, , 4, 16, 64, 128, 4, 8, 2, 4, 1)  \
  APPLY(__VA_ARGS__, , 4, 16, 64, 128, 4, 8, 2, 4, 2)  \
  APPLY(__VA_ARGS__, , 4, 16, 64, 64, 6, 8, 4, 2, 1)   \
  APPLY(__VA_ARGS__, , 4, 16, 64, 64, 6, 8, 4, 2, 2)   \
  APPLY(__VA_ARGS__, , 4, 16, 32, 128, 6, 8, 2, 4, 1)  \
  APPLY(__VA_ARGS__, , 4, 16, 32, 256, 3, 8, 1, 8, 1)  \
  APPLY(__VA_ARGS__, , 4, 16, 32, 256, 3, 8, 1, 8, 2)  \
  APPLY(__VA_ARGS__, , 4, 16, 16, 256, 5, 8, 1, 8, 1)  \
  APPLY(__VA_ARGS__, , 4, 16, 16, 256, 5, 8, 1, 8, 2)  \
  APPLY(__VA_ARGS__, , 4, 16, 16, 256, 3, 8, 1, 8, 2)  \
  APPLY(__VA_ARGS__, , 4, 16, 72, 64, 6, 8, 4, 2, 8)   \
  APPLY(__VA_ARGS__, , 4, 16, 128, 64, 4, 8, 4, 2, 1)  \
  APPLY(__VA_ARGS__, , 4, 16, 128, 64, 4, 8, 4, 2, 2)  \
  APPLY(__VA_ARGS__, , 4, 32, 32, 64, 5, 16, 2, 2, 2)  \
  APPLY(__VA_ARGS__, , 4, 32, 64, 64, 6, 16, 4, 2, 1)  \
  APPLY(__VA_ARGS__, , 4, 32, 64, 64, 6, 16, 4, 2, 2)  \
  APPLY(__VA_ARGS__, , 4, 32, 32, 128, 4, 16, 2, 4, 1) \
  APPLY(__VA_ARGS__, , 4, 32, 32, 128, 4, 16, 2, 4, 2) \
  APPLY(__VA_ARGS__, , 4, 32, 16, 256, 3, 16, 1, 8, 1) \
  APPLY(__VA_ARGS__, , 4, 32, 16, 256, 3, 16, 1, 8, 2) \
  APPLY(__VA_ARGS__, , 4, 32, 72, 64, 6, 16, 4, 2, 8)

FUSEDOPS_SM90_SKINNY_FP32_CONFIGS(FUSEDOPS_SKINNY_FP32_KERNEL, Exchange, OnHopper)

namespace fusedops {

std::vector<Instance> sm90_skinny_fp32_instances() {
  return {FUSEDOPS_SM90_SKINNY_FP32_CONFIGS(FUSEDOPS_SKINNY_FP32_INSTANCE, Exchange, OnHopper)};
}

}  // namespace fusedops
