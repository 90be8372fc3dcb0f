#include <cstring>

#include "catalogue.h"
#include "cuda/instance.h"
#include "cuda/resources.h"

namespace fusedops {
namespace {

std::vector<InstanceResources> resources_of(const Instance& instance) {
  std::vector<InstanceResources> all;
  for (const CompiledResources& compiled : compiled_resources()) {
    if (std::strcmp(compiled.entry_symbol, instance.entry_symbol) != 0) continue;
    const Occupancy fits = occupancy(instance, compiled);
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
          resources_of(instance),
          [&instance](const Problem& problem) { return instance.why_not(instance, problem); }};
}

}  // namespace

std::vector<InstanceDescription> describe_instances() {
  std::vector<InstanceDescription> all;
  for (const Instance& instance : instances()) {
    all.push_back(describe(instance, static_cast<int>(all.size())));
  }
  return all;
}

}  // namespace fusedops
