#include "cuda/sm90_instances.cuh"

// The 16-bit mainloop on float32 operands: wgmma reads the upper 19 bits of each, a TF32 number
// rounded towards zero.
namespace fusedops::sm90 {
namespace {

template <class Config>
std::vector<std::string> why_not_tf32(const Instance& instance, const Problem& problem) {
  std::vector<std::string> reasons = why_not<Config>(instance, problem);
  if (!problem.allow_tf32) {
    reasons.push_back(
        "it rounds float32 operands to TF32, which torch.backends.cuda.matmul.fp32_precision does "
        "not allow");
  }
  return reasons;
}

template <class Config, class Epilogue, Kernel<Config, Epilogue> kKernel>
Instance tf32_instance(const char* label, const char* entry_symbol) {
  Instance each = instance<Config, Epilogue, kKernel>(label, entry_symbol);
  each.kernel = "cuda.sm90_tf32";
  each.accumulation = {0x1p-11, 0};
  static_assert(Config::kSplitK <= 2);
  each.summation = Config::kSplitK == 1 ? "wgmma_tf32_k8" : "wgmma_tf32_k8_split2";
  each.why_not = &why_not_tf32<Config>;
  return each;
}

}  // namespace
}  // namespace fusedops::sm90

#define FUSEDOPS_TF32_INSTANCE(PREFIX, ELEMENT, SCHEDULE, M, N, K, STAGES, CM, CN, CK) \
  ::fusedops::sm90::tf32_instance<                                                     \
      FUSEDOPS_SM90_CONFIG(ELEMENT, SCHEDULE, M, N, K, STAGES, CM, CN, CK),            \
      ::fusedops::SigmoidResidual,                                                     \
      &FUSEDOPS_SM90_ENTRY(PREFIX, SCHEDULE, M, N, K, STAGES, CM, CN, CK)>(            \
      #PREFIX "_" #M "x" #N "x" #K "_s" #STAGES "_c" #CM "x" #CN "x" #CK,              \
      FUSEDOPS_SM90_STRING(FUSEDOPS_SM90_ENTRY(PREFIX, SCHEDULE, M, N, K, STAGES, CM, CN, CK))),

// APPLY(..., schedule, tile m, n, k, stages, cluster m, n, k)
#define FUSEDOPS_TF32_CONFIGS(APPLY, ...)                   \
  APPLY(__VA_ARGS__, cooperative, 128, 256, 32, 4, 2, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 256, 32, 4, 1, 2, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 32, 6, 2, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 64, 128, 64, 4, 1, 1, 1)  \
  APPLY(__VA_ARGS__, cooperative, 128, 64, 32, 6, 1, 1, 2)

FUSEDOPS_TF32_CONFIGS(FUSEDOPS_SM90_KERNEL, tf32, float)

namespace fusedops {

std::vector<Instance> sm90_tf32_instances() {
  return {FUSEDOPS_TF32_CONFIGS(FUSEDOPS_TF32_INSTANCE, tf32, float)};
}

}  // namespace fusedops
