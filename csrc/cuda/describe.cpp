#include <cstring>

#include "catalogue.h"
#include "cuda/backward_instance.h"
#include "cuda/instance.h"
#include "cuda/resources.h"

namespace fusedops {
namespace {

std::vector<InstanceResources> resources_of(const char* entry_symbol, int threads,
                                            int shared_memory) {
  std::vector<InstanceResources> all;
  for (const CompiledResources& compiled : compiled_resources()) {
    if (std::strcmp(compiled.entry_symbol, entry_symbol) != 0) continue;
    const Occupancy fits = occupancy(threads, shared_memory, compiled);
    all.push_back({compiled.architecture, compiled.registers, compiled.spill_bytes,
                   compiled.static_shared, fits.blocks, fits.warps, fits.limiter});
  }
  return all;
}

InstanceDescription describe(const Instance& instance, int index) {
  return {instance.kernel,
          instance.label,
          index,
          instance.dtype,
          instance.min_capability,
          instance.max_capability,
          instance.tile_m,
          instance.tile_n,
          instance.tile_k,
          instance.stages,
          instance.threads,
          instance.shared_memory,
          instance.accumulation.unit_roundoff,
          instance.accumulation.chain,
          instance.accumulation.spacing,
          instance.summation,
          instance.cluster_m,
          instance.cluster_n,
          instance.for_gradients,
          resources_of(instance.entry_symbol, instance.threads, instance.shared_memory),
          [&instance](const Problem& problem) { return instance.why_not(instance, problem); }};
}

BackwardDescription describe(const BackwardInstance& instance, int index) {
  return {
      instance.kernel,
      instance.label,
      index,
      instance.dtype,
      instance.min_capability,
      instance.threads,
      instance.accumulation.unit_roundoff,
      resources_of(instance.entry_symbol, instance.threads, 0),
      [&instance](const BackwardProblem& problem) { return instance.why_not(instance, problem); },
      [&instance](const BackwardProblem& problem, int multiprocessors) {
        const Workspace needed = instance.workspace(problem, multiprocessors);
        return std::pair(needed.partials, needed.counters);
      }};
}

}  // namespace

std::vector<BackwardDescription> describe_backward_instances() {
  std::vector<BackwardDescription> all;
  for (const BackwardInstance& instance : backward_instances()) {
    all.push_back(describe(instance, static_cast<int>(all.size())));
  }
  return all;
}

std::vector<InstanceDescription> describe_instances() {
  std::vector<InstanceDescription> all;
  for (const Instance& instance : instances()) {
    all.push_back(describe(instance, static_cast<int>(all.size())));
  }
  return all;
}

}  // namespace fusedops
