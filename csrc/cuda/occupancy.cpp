#include <cuda_occupancy.h>

#include <climits>
#include <cstdlib>

#include "cuda/resources.h"

namespace fusedops {
namespace {

struct Multiprocessor {
  int capability;
  int threads;
  int shared_memory, shared_memory_per_block;  // KiB
};

// CUDA programming guide, technical specifications per compute capability.
constexpr Multiprocessor kMultiprocessors[] = {
    {80, 2048, 164, 163},  {86, 1536, 100, 99},  {87, 1536, 164, 163},  {88, 1536, 100, 99},
    {89, 1536, 100, 99},   {90, 2048, 228, 227}, {100, 2048, 228, 227}, {103, 2048, 228, 227},
    {110, 1536, 228, 227}, {120, 1536, 100, 99}, {121, 1536, 100, 99},
};

const Multiprocessor* multiprocessor(int capability) {
  for (const Multiprocessor& each : kMultiprocessors) {
    if (each.capability == capability) return &each;
  }
  return nullptr;
}

std::string limiter_of(unsigned factors) {
  if (factors & OCC_LIMIT_SHARED_MEMORY) return "shared memory";
  if (factors & OCC_LIMIT_REGISTERS) return "registers";
  if (factors & OCC_LIMIT_WARPS) return "warps";
  if (factors & OCC_LIMIT_BLOCKS) return "blocks";
  if (factors & OCC_LIMIT_BARRIERS) return "barriers";
  return "unknown";
}

}  // namespace

Occupancy occupancy(int threads, int shared_memory, const CompiledResources& resources) {
  const int capability = std::atoi(resources.architecture + 3);
  const Multiprocessor* sm = multiprocessor(capability);
  if (sm == nullptr) return {0, 0, "unknown"};

  cudaOccDeviceProp device;
  device.computeMajor = capability / 10;
  device.computeMinor = capability % 10;
  device.maxThreadsPerBlock = 1024;
  device.maxThreadsPerMultiprocessor = sm->threads;
  device.regsPerBlock = device.regsPerMultiprocessor = 64 * 1024;
  device.warpSize = 32;
  device.sharedMemPerBlock = 48 * 1024;
  device.sharedMemPerMultiprocessor = sm->shared_memory * 1024;
  device.sharedMemPerBlockOptin = sm->shared_memory_per_block * 1024;
  device.reservedSharedMemPerBlock = 1024;
  device.numSms = 1;

  cudaOccFuncAttributes function;
  function.maxThreadsPerBlock = INT_MAX;
  function.numRegs = resources.registers;
  function.sharedSizeBytes = resources.static_shared;
  function.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
  function.maxDynamicSharedSizeBytes = shared_memory;
  function.numBlockBarriers = resources.barriers;

  cudaOccDeviceState state;
  cudaOccResult result;
  const cudaOccError error = cudaOccMaxActiveBlocksPerMultiprocessor(
      &result, &device, &function, &state, threads, shared_memory);
  if (error != CUDA_OCC_SUCCESS) return {0, 0, "unknown"};
  const int blocks = result.activeBlocksPerMultiprocessor;
  return {blocks, blocks * threads / 32, limiter_of(result.limitingFactors)};
}

}  // namespace fusedops
