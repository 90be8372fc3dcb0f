#include "cuda/sm80_instances.cuh"

FUSEDOPS_SM80_TILES(FUSEDOPS_SM80_KERNEL, bf16, cutlass::bfloat16_t)

namespace fusedops::sm80 {

std::vector<Instance> bf16_instances() {
  return {FUSEDOPS_SM80_TILES(FUSEDOPS_SM80_INSTANCE, bf16, cutlass::bfloat16_t)};
}

}  // namespace fusedops::sm80
