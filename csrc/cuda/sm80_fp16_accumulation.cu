#include "cuda/sm80_instances.cuh"

FUSEDOPS_SM80_FP16_ACCUMULATION_TILES(FUSEDOPS_SM80_KERNEL, fp16_accumulation, __half,
                                      PromotedFloat16Sums)

namespace fusedops::sm80 {

std::vector<Instance> fp16_accumulation_instances() {
  return {FUSEDOPS_SM80_FP16_ACCUMULATION_TILES(FUSEDOPS_SM80_INSTANCE, fp16_accumulation, __half,
                                                PromotedFloat16Sums)};
}

}  // namespace fusedops::sm80
