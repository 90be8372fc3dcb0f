#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace fusedops {

// Adds the rows of a matrix in shared memory into its first: a tree, so every sum has one order.

__device__ __forceinline__ void add_rows(float* matrix, int rows, int columns) {
  constexpr int kFan = 8;
  while (rows > 1) {
    const int next = rows > kFan ? rows / kFan : 1;
    __syncthreads();
    for (int element = threadIdx.x; element < next * columns; element += blockDim.x) {
      float sum = matrix[element];
      for (int row = next; row < rows; row += next) sum += matrix[element + row * columns];
      matrix[element] = sum;
    }
    rows = next;
  }
  __syncthreads();
}

// The sum over a block of one number a thread; valid in thread 0.
template <int kThreads>
__device__ __forceinline__ float add_threads(float value, float* spare) {
  __syncthreads();
  spare[threadIdx.x] = value;
  add_rows(spare, kThreads, 1);
  return spare[0];
}

// Whether this block is the last of `blocks` to arrive, whose writes before it then sees. The
// counter is zero before the first and after the last.
__device__ __forceinline__ bool arrives_last(unsigned* counter, int blocks) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned before;
    asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(counter), "r"(static_cast<unsigned>(blocks - 1))
                 : "memory");
    last = before == static_cast<unsigned>(blocks - 1);
  }
  __syncthreads();
  return last;
}

// Adds rows of `columns` floats, `apart` from one another and written by other blocks, into
// matrix[0..columns).
template <int kThreads>
__device__ __forceinline__ void add_partial_rows(const float* partial, int rows, int columns,
                                                 int64_t apart, float* matrix) {
  constexpr int kAtOnce = 8;
  const int quads = columns / 4;
  for (int quad = static_cast<int>(threadIdx.x) % quads; quad < quads; quad += kThreads) {
    const int group = static_cast<int>(threadIdx.x) / quads;
    const int groups = quads < kThreads ? kThreads / quads : 1;
    const float* from = partial + 4 * quad;
    float4 sum = {0, 0, 0, 0};
    for (int row = group; row < rows; row += kAtOnce * groups) {
      float4 each[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int at = row + i * groups;
        each[i] = {0, 0, 0, 0};
        if (at < rows) each[i] = __ldcg(reinterpret_cast<const float4*>(from + at * apart));
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        sum.x += each[i].x;
        sum.y += each[i].y;
        sum.z += each[i].z;
        sum.w += each[i].w;
      }
    }
    reinterpret_cast<float4*>(matrix)[group * quads + quad] = sum;
  }
  add_rows(matrix, quads < kThreads ? kThreads / quads : 1, columns);
}

}  // namespace fusedops
