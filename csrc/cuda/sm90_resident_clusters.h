#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>

namespace fusedops::sm90 {

// How many clusters of one kernel a device holds at once: fewer than its multiprocessors suggest,
// for a cluster lies within a GPC. A persistent grid of more would end with a second wave. Asked
// once a device, when the kernel is also allowed its shared memory.
class ResidentClusters {
 public:
  cudaError_t count(const void* kernel, const cudaLaunchConfig_t& config, int& clusters) {
    int device = 0;
    if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
    if (device < kDevices) {
      clusters = count_[device].load(std::memory_order_relaxed);
      if (clusters > 0) return cudaSuccess;
    }
    if (const cudaError_t error =
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(config.dynamicSmemBytes));
        error != cudaSuccess) {
      return error;
    }
    if (const cudaError_t error = cudaOccupancyMaxActiveClusters(&clusters, kernel, &config);
        error != cudaSuccess) {
      return error;
    }
    clusters = std::max(1, clusters);
    if (device < kDevices) count_[device].store(clusters, std::memory_order_relaxed);
    return cudaSuccess;
  }

 private:
  static constexpr int kDevices = 64;
  std::atomic<int> count_[kDevices]{};
};

}  // namespace fusedops::sm90
