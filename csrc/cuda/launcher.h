#pragma once

#include <cstdint>
#include <optional>

#include "cuda/backward_instance.h"
#include "cuda/instance.h"

namespace fusedops {

// One instance with everything about a problem settled but the addresses, the scale and the stream.
class Launcher {
 public:
  // The caller has asked the instance's why_not about this problem.
  Launcher(const Instance& instance, const Problem& problem, int multiprocessors)
      : instance_(instance) {
    settled_.problem = problem;
    settled_.multiprocessors = multiprocessors;
  }

  cudaError_t operator()(const void* x, const void* weight, const void* bias, double scale,
                         void* out, cudaStream_t stream, const float* scale_in_memory = nullptr,
                         void* z = nullptr) const {
    GemmArgs args = settled_;
    args.scale_in_memory = scale_in_memory;
    args.z = z;
    args.x = x;
    args.weight = weight;
    args.bias = bias;
    args.scale = scale;
    args.out = out;
    args.stream = stream;
    return instance_.launch(args);
  }

  const Instance& instance() const { return instance_; }

 private:
  const Instance& instance_;
  GemmArgs settled_{};
};

// The same of a backward kernel.
class BackwardLauncher {
 public:
  BackwardLauncher(const BackwardInstance& instance, const BackwardProblem& problem,
                   int multiprocessors)
      : instance_(instance) {
    settled_.problem = problem;
    settled_.multiprocessors = multiprocessors;
  }

  // The arguments without what is settled.
  cudaError_t operator()(BackwardArgs args) const {
    args.problem = settled_.problem;
    args.multiprocessors = settled_.multiprocessors;
    return instance_.launch(args);
  }

  const BackwardInstance& instance() const { return instance_; }

 private:
  const BackwardInstance& instance_;
  BackwardArgs settled_{};
};

}  // namespace fusedops
