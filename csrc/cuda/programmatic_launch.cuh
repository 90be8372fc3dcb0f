#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>

// Programmatic dependent launch: a kernel may start while the one before it in the stream is still
// running, and so hide its launch and its first loads under the other's tail. Both instructions do
// nothing in a kernel launched without the attribute, and are absent before sm_90.
//
// The rule that keeps every chain of kernels right, buffers reused or not: each thread waits before
// it reads what a predecessor may write and before it writes anything. Only a prefetch to L2, the
// point where all multiprocessors agree on memory, may come earlier.

namespace fusedops {

// The next kernel may start once every block of this one has said so, or has ended.
__device__ __forceinline__ void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Returns when the preceding kernels have ended and their writes are visible.
__device__ __forceinline__ void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Whether the code that a device runs holds the two instructions. Code translated from older PTX
// does not, and must not be launched with the attribute: nothing in it would wait. Asks the runtime
// once a device.
class OverlapSupport {
 public:
  bool operator()(const void* entry) {
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess || device >= 64) return false;
    const uint64_t bit = uint64_t{1} << device;
    if (!(asked_.load(std::memory_order_acquire) & bit)) {
      cudaFuncAttributes attributes{};
      const bool supported =
          cudaFuncGetAttributes(&attributes, entry) == cudaSuccess && attributes.ptxVersion >= 90;
      if (supported) supported_.fetch_or(bit, std::memory_order_relaxed);
      asked_.fetch_or(bit, std::memory_order_release);
    }
    return supported_.load(std::memory_order_relaxed) & bit;
  }

 private:
  std::atomic<uint64_t> asked_{0}, supported_{0};
};

inline cudaLaunchAttribute overlap_with_predecessor() {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  return attribute;
}

}  // namespace fusedops
