#include "cuda/epilogues.cuh"
#include "cuda/skinny_instances.cuh"

FUSEDOPS_SKINNY_TILES(FUSEDOPS_SKINNY_KERNEL, bf16, __nv_bfloat16)
FUSEDOPS_SKINNY_TILES(FUSEDOPS_SKINNY_KERNEL, fp16, __half)

namespace fusedops {

std::vector<Instance> skinny_instances() {
  return {FUSEDOPS_SKINNY_TILES(FUSEDOPS_SKINNY_INSTANCE, bf16, __nv_bfloat16)
              FUSEDOPS_SKINNY_TILES(FUSEDOPS_SKINNY_INSTANCE, fp16, __half)};
}

}  // namespace fusedops
