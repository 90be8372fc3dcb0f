#include "cuda/sm90_instances.cuh"

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

constexpr const char* tf32_summation(int split_k) {
  switch (split_k) {
    case 1:
      return "wgmma_tf32_k8";
    case 2:
      return "wgmma_tf32_k8_split2";
    default:
      return "wgmma_tf32_k8_split4";
  }
}

template <class Config, class Epilogue, Kernel<Config, Epilogue> kKernel>
Instance tf32_instance(const char* label, const char* entry_symbol) {
  Instance each = instance<Config, Epilogue, kKernel>(label, entry_symbol);
  each.kernel = "cuda.sm90_tf32";
  each.accumulation = {0x1p-11, 0};
  each.summation = tf32_summation(Config::kSplitK);
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
  APPLY(__VA_ARGS__, cooperative, 256, 128, 32, 4, 1, 2, 1) \
  APPLY(__VA_ARGS__, cooperative, 256, 128, 32, 4, 2, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 256, 160, 32, 3, 2, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 192, 32, 4, 2, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 32, 6, 2, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 32, 6, 1, 1, 1) \
  APPLY(__VA_ARGS__, cooperative, 128, 64, 32, 8, 1, 1, 1)  \
  APPLY(__VA_ARGS__, cooperative, 128, 64, 32, 8, 1, 2, 1)  \
  APPLY(__VA_ARGS__, cooperative, 64, 128, 64, 4, 1, 1, 1)  \
  APPLY(__VA_ARGS__, cooperative, 128, 256, 32, 3, 1, 1, 2) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 32, 4, 1, 1, 2) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 32, 4, 1, 2, 2) \
  APPLY(__VA_ARGS__, cooperative, 128, 128, 32, 4, 1, 1, 4) \
  APPLY(__VA_ARGS__, cooperative, 128, 64, 32, 6, 1, 1, 2)  \
  APPLY(__VA_ARGS__, cooperative, 128, 64, 32, 6, 1, 2, 2)

FUSEDOPS_TF32_CONFIGS(FUSEDOPS_SM90_KERNEL, tf32, float)

namespace fusedops {

std::vector<Instance> sm90_tf32_instances() {
  return {FUSEDOPS_TF32_CONFIGS(FUSEDOPS_TF32_INSTANCE, tf32, float)};
}

}  // namespace fusedops
