#include "cuda/sm80_instances.cuh"

FUSEDOPS_SM80_TILES(FUSEDOPS_SM80_KERNEL, bf16, __nv_bfloat16, Float32Sums)

namespace fusedops::sm80 {

std::vector<Instance> bf16_instances() {
  return {FUSEDOPS_SM80_TILES(FUSEDOPS_SM80_INSTANCE, bf16, __nv_bfloat16, Float32Sums)};
}

}  // namespace fusedops::sm80
