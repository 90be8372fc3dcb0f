#include "cuda/sm90_skinny_instances.cuh"

FUSEDOPS_SM90_SKINNY_CONFIGS(FUSEDOPS_SM90_SKINNY_KERNEL, bf16, __nv_bfloat16)
FUSEDOPS_SM90_SKINNY_CONFIGS(FUSEDOPS_SM90_SKINNY_KERNEL, fp16, __half)

namespace fusedops {

std::vector<Instance> sm90_skinny_instances() {
  return {FUSEDOPS_SM90_SKINNY_CONFIGS(FUSEDOPS_SM90_SKINNY_INSTANCE, bf16, __nv_bfloat16)
              FUSEDOPS_SM90_SKINNY_CONFIGS(FUSEDOPS_SM90_SKINNY_INSTANCE, fp16, __half)};
}

}  // namespace fusedops
