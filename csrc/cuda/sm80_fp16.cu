#include "cuda/sm80_instances.cuh"

FUSEDOPS_SM80_TILES(FUSEDOPS_SM80_KERNEL, fp16, __half, Float32Sums)

namespace fusedops::sm80 {

std::vector<Instance> fp16_instances() {
  return {FUSEDOPS_SM80_TILES(FUSEDOPS_SM80_INSTANCE, fp16, __half, Float32Sums)};
}

}  // namespace fusedops::sm80
