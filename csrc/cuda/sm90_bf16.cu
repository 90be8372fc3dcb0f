#include "cuda/sm90_instances.cuh"

FUSEDOPS_SM90_CONFIGS(FUSEDOPS_SM90_KERNEL, bf16, __nv_bfloat16)

namespace fusedops {

std::vector<Instance> sm90_bf16_instances() {
  return {FUSEDOPS_SM90_CONFIGS(FUSEDOPS_SM90_INSTANCE, bf16, __nv_bfloat16)};
}

}  // namespace fusedops
