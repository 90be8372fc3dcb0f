#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>

namespace fusedops {

// Lets a kernel use more than 48 KiB of dynamic shared memory; asks the runtime once a device.
// `done` is the kernel's own, one bit a device.
inline cudaError_t allow_shared_memory(std::atomic<uint64_t>& done, const void* entry, int bytes) {
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  const uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
  if (done.load(std::memory_order_relaxed) & bit) return cudaSuccess;
  const cudaError_t error =
      cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error == cudaSuccess) done.fetch_or(bit, std::memory_order_relaxed);
  return error;
}

}  // namespace fusedops
