#include "cuda/sm90_instances.cuh"

FUSEDOPS_SM90_CONFIGS(FUSEDOPS_SM90_KERNEL, fp16, __half)

namespace fusedops {

std::vector<Instance> sm90_fp16_instances() {
  return {FUSEDOPS_SM90_CONFIGS(FUSEDOPS_SM90_INSTANCE, fp16, __half)};
}

}  // namespace fusedops
