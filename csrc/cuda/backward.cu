#include "cuda/backward.cuh"
#include "cuda/backward_instance.h"
#include "cuda/predicates.h"

namespace fusedops::backward {
namespace {

// Rows that a block should have for each of its threads at least, before more blocks share them.
constexpr int kLeastRows = 2;

template <class Config, class Element>
Strips strips(const BackwardProblem& problem, int multiprocessors) {
  return strips_of(problem.m, problem.n, Config::kThreads, Config::template kElements<Element>,
                   kLeastRows, Config::kBlocks * multiprocessors);
}

template <class Config, class Element>
Workspace workspace(const BackwardProblem& problem, int multiprocessors) {
  const Strips shared = strips<Config, Element>(problem, multiprocessors);
  const int64_t columns = int64_t{Config::template kElements<Element>} << shared.lanes_log2;
  const bool meet_for_columns = problem.bias_dtype && shared.blocks_each > 1;
  const bool meet_for_scale = problem.wants_dscale && shared.blocks() > 1;
  Workspace needed{};
  if (meet_for_columns) needed.partials += columns * shared.blocks();
  if (meet_for_scale) needed.partials += shared.blocks();
  if (meet_for_columns || meet_for_scale) needed.counters = shared.strips + 1;
  return needed;
}

std::vector<std::string> why_not(const BackwardInstance& instance, const BackwardProblem& problem) {
  std::vector<std::string> reasons =
      capability_reasons(instance.min_capability, kNoMaximum, problem.capability);
  if (problem.dtype != instance.dtype) {
    reasons.push_back(std::string("it computes ") + name(instance.dtype) + ", not " +
                      name(problem.dtype));
  }
  if (problem.steps > 2) {
    reasons.push_back("it recovers z from y in at most 2 steps, not " +
                      std::to_string(problem.steps));
  }
  return reasons;
}

template <class Config, class Element, void (*kKernel)(Params)>
cudaError_t launch(const BackwardArgs& args) {
  const BackwardProblem& problem = args.problem;
  Params params{};
  params.grad = args.grad;
  params.saved = args.saved;
  params.dz = args.dz;
  params.dbias = args.dbias;
  params.dscale = args.dscale;
  params.device_scale = args.device_scale;
  params.bias_dtype = problem.bias_dtype.value_or(problem.dtype);
  params.scale_dtype = problem.scale_dtype.value_or(problem.dtype);
  params.scale = static_cast<float>(args.scale);
  params.steps = problem.steps;
  params.m = problem.m;
  params.n = problem.n;
  const auto address = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); };
  const int64_t row = problem.n * static_cast<int64_t>(sizeof(Element));
  params.in_vectors =
      (row | address(args.grad) | address(args.saved) | address(args.dz)) % Config::kBytes == 0;
  params.strips = strips<Config, Element>(problem, args.multiprocessors);
  params.counters = static_cast<unsigned*>(args.counters);
  params.column_partials = static_cast<float*>(args.partials);
  const bool meet_for_columns = problem.bias_dtype && params.strips.blocks_each > 1;
  const int64_t columns = int64_t{Config::template kElements<Element>} << params.strips.lanes_log2;
  params.scale_partials =
      params.column_partials + (meet_for_columns ? columns * params.strips.blocks() : 0);
  kKernel<<<params.strips.blocks(), Config::kThreads, 0, args.stream>>>(params);
  return cudaGetLastError();
}

template <class Config, class Element, void (*kKernel)(Params)>
BackwardInstance instance(const char* label, DType dtype, const char* entry_symbol) {
  return {"cuda.backward",
          label,
          dtype,
          /*min_capability=*/80,
          Config::kThreads,
          Accumulation{0x1p-24, 0},
          &why_not,
          &workspace<Config, Element>,
          &launch<Config, Element, kKernel>,
          reinterpret_cast<const void*>(kKernel),
          entry_symbol};
}

}  // namespace
}  // namespace fusedops::backward

// APPLY(name, element, dtype): one kernel a dtype, under a C name that profilers show and ptxas
// reports its resources under.
#define FUSEDOPS_BACKWARD_KERNELS(APPLY) \
  APPLY(fp16, __half, float16)           \
  APPLY(bf16, __nv_bfloat16, bfloat16)   \
  APPLY(fp32, float, float32)

#define FUSEDOPS_BACKWARD_KERNEL(NAME, ELEMENT, DTYPE)                                          \
  extern "C" __global__ void __launch_bounds__(fusedops::backward::ConfigOf<ELEMENT>::kThreads, \
                                               fusedops::backward::ConfigOf<ELEMENT>::kBlocks)  \
      gemm_sig_res_backward_##NAME(const __grid_constant__ fusedops::backward::Params params) { \
    fusedops::backward::run<fusedops::backward::ConfigOf<ELEMENT>, ELEMENT>(params);            \
  }

#define FUSEDOPS_BACKWARD_INSTANCE(NAME, ELEMENT, DTYPE)                                     \
  fusedops::backward::instance<fusedops::backward::ConfigOf<ELEMENT>, ELEMENT,               \
                               &gemm_sig_res_backward_##NAME>(#NAME, fusedops::DType::DTYPE, \
                                                              "gemm_sig_res_backward_" #NAME),

FUSEDOPS_BACKWARD_KERNELS(FUSEDOPS_BACKWARD_KERNEL)

namespace fusedops {

const std::vector<BackwardInstance>& backward_instances() {
  static const std::vector<BackwardInstance> all = {
      FUSEDOPS_BACKWARD_KERNELS(FUSEDOPS_BACKWARD_INSTANCE)};
  return all;
}

}  // namespace fusedops
