#pragma once

#include <functional>
#include <string>
#include <utility>
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

// A compiled kernel of the gradient with respect to z.
struct BackwardDescription {
  std::string kernel, label;
  int index;
  DType dtype;
  int min_capability, threads;
  double unit_roundoff;
  std::vector<InstanceResources> resources;
  std::function<std::vector<std::string>(const BackwardProblem&)> why_not;
  // Floats of partial sums and counters that a launch needs, by the card's multiprocessors.
  std::function<std::pair<int64_t, int64_t>(const BackwardProblem&, int)> workspace;
};

std::vector<InstanceDescription> describe_instances();
std::vector<BackwardDescription> describe_backward_instances();

}  // namespace fusedops
