#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/problem.h"

namespace fusedops {

struct InstanceResources {
  std::string architecture;
  int registers, spill_bytes, static_shared;
  int occupancy_blocks, occupancy_warps;
  std::string limiter;
};

// A compiled kernel instance as the catalogue shows it, with no CUDA type in it.
struct InstanceDescription {
  std::string kernel, label;
  int index;
  DType dtype;
  int min_capability, max_capability;
  int tile_m, tile_n, tile_k;
  int stages, threads, shared_memory;
  double unit_roundoff, chain, spacing;
  std::string summation;
  int cluster_m, cluster_n;
  bool for_gradients;
  std::vector<InstanceResources> resources;
  std::function<std::vector<std::string>(const Problem&)> why_not;
};

std::vector<InstanceDescription> describe_instances();

}  // namespace fusedops
