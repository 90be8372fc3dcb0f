#pragma once

#include <algorithm>
#include <cstdio>

#include "check.cuh"
#include "cuda/sm80_primitives.cuh"

// What mma.sync itself gives: a warp's 64 x 64 tile in registers, with or without the ldmatrix that
// feeds it. The data is random, because the power that a product draws depends on it.

template <class Sum, class Element, bool kLoad>
__global__ void __launch_bounds__(256) instruction_rate(int rounds, uint32_t* sink) {
  using namespace fusedops::sm80;
  extern __shared__ __align__(1024) unsigned char shared[];
  constexpr int kSumRegisters = std::is_same_v<Sum, float> ? 4 : 2;
  Sum sums[4][8][kSumRegisters] = {};
  uint32_t a[2][4][4], b[2][4][4];
  const auto random_pair = [](uint32_t seed) { return (mixed(seed) & 0x807F807F) | 0x3F803F80; };
  for (int i = 0; i < 32; ++i) {
    reinterpret_cast<uint32_t*>(a)[i] = random_pair(i + 64 * threadIdx.x);
    reinterpret_cast<uint32_t*>(b)[i] = random_pair(i + 32 + 64 * threadIdx.x);
  }
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t x = shared_address(shared) + lane % 16 * 64 + ((lane / 16) ^ (lane / 2 % 4)) * 16;
  for (int i = threadIdx.x; i < 32768 / 4; i += blockDim.x) {
    reinterpret_cast<uint32_t*>(shared)[i] = random_pair(i);
  }
  __syncthreads();
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      if constexpr (kLoad) {
        const uint32_t from = x ^ (step * 32);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          load_matrices(a[1 - step][i], from + i * 1024 + (warp % 2) * 4096);
          load_matrices(b[1 - step][i], from + i * 1024 + 8192 + (warp / 2) * 4096);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          multiply(sums[i][j], a[step][i], b[step][j / 2][j % 2 * 2], b[step][j / 2][j % 2 * 2 + 1],
                   Element{});
        }
      }
    }
  }
  uint32_t any = 0;
  for (auto& row : sums) {
    for (auto& sum : row) {
      for (auto& value : sum) any |= reinterpret_cast<uint32_t&>(value);
    }
  }
  if (any == 0x12345678) *sink = any;
}

// TFLOP/s at eight warps a multiprocessor.
template <class Sum, class Element, bool kLoad>
double measured_rate(int multiprocessors) {
  constexpr int kRounds = 4000, kThreads = 256;
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  uint32_t* sink;
  CHECK(cudaMalloc(&sink, sizeof(*sink)));
  float best = 1e9f;
  for (int i = 0; i < 5; ++i) {
    CHECK(cudaEventRecord(begin));
    instruction_rate<Sum, Element, kLoad><<<multiprocessors, kThreads, 32768>>>(kRounds, sink);
    CHECK(cudaEventRecord(end));
    CHECK(cudaDeviceSynchronize());
    float milliseconds;
    CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
    best = std::min(best, milliseconds);
  }
  CHECK(cudaFree(sink));
  return 2.0 * 64 * 64 * 32 * kRounds * (kThreads / 32) * multiprocessors / best * 1e-9;
}
