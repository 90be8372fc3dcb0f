#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cute/arch/mma_sm90_gmma.hpp>
#include <cute/arch/mma_sm90_gmma_ext.hpp>
#include <utility>

#include "cuda/sm90_primitives.cuh"

// wgmma m64nNk16 with both operands in shared memory, K-major, in the 128-byte swizzle that TMA
// writes: rows of 64 elements (128 bytes), eight of them to a 1024-byte atom in which the 16-byte
// chunk c of row r lies at chunk c ^ r.
namespace fusedops::sm90 {

constexpr int kSwizzleBytes = 128;
constexpr int kSwizzleAtomBytes = 8 * kSwizzleBytes;
constexpr int kWgmmaM = 64;
constexpr int kWgmmaK = 16;       // of 16-bit elements; 8 of float32, read as TF32
constexpr int kWgmmaBytesK = 32;  // of either

// The operand's descriptor: address, leading-dimension offset (unused under this swizzle), stride
// between groups of eight rows, and the swizzle mode; offsets in units of 16 bytes.
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* operand) {
  constexpr uint64_t kSwizzle128B = 1;
  const uint64_t address = (shared_address(operand) & 0x3FFFF) >> 4;
  return address | (uint64_t{1} << 16) | (uint64_t{kSwizzleAtomBytes >> 4} << 32) |
         (kSwizzle128B << 62);
}

// One step along K is 32 bytes inside the swizzle atom, whose base stays aligned.
constexpr uint64_t kDescriptorStepK = kWgmmaBytesK >> 4;

namespace detail {
using cute::SM90::GMMA::Major;
using cute::SM90::GMMA::ScaleOut;
template <class Element, int kN>
struct Wgmma;
#define FUSEDOPS_WGMMA(N)                                                                          \
  template <>                                                                                      \
  struct Wgmma<__nv_bfloat16, N>                                                                   \
      : cute::SM90::GMMA::MMA_64x##N##x16_F32BF16BF16_SS<Major::K, Major::K> {};                   \
  template <>                                                                                      \
  struct Wgmma<__half, N> : cute::SM90::GMMA::MMA_64x##N##x16_F32F16F16_SS<Major::K, Major::K> {}; \
  template <>                                                                                      \
  struct Wgmma<float, N> : cute::SM90::GMMA::MMA_64x##N##x8_F32TF32TF32_SS_TN<> {};
FUSEDOPS_WGMMA(64)
FUSEDOPS_WGMMA(96)
FUSEDOPS_WGMMA(128)
FUSEDOPS_WGMMA(144)
FUSEDOPS_WGMMA(160)
FUSEDOPS_WGMMA(176)
FUSEDOPS_WGMMA(192)
FUSEDOPS_WGMMA(208)
FUSEDOPS_WGMMA(256)
#undef FUSEDOPS_WGMMA

template <class Atom, int kRegisters, size_t... kIndex>
__device__ __forceinline__ void wgmma(uint64_t a, uint64_t b, float (&accumulator)[kRegisters],
                                      bool accumulate, std::index_sequence<kIndex...>) {
  Atom::fma(a, b, accumulator[kIndex]..., accumulate ? ScaleOut::One : ScaleOut::Zero);
}
}  // namespace detail

// accumulator = a * b^T (+ accumulator). Thread t of the warpgroup holds, in elements 4j .. 4j+3,
// rows 16 * (t / 32) + t % 32 / 4 (first two) and 8 below (last two) of columns
// 8j + 2 * (t % 4) and the next.
template <class Element, int kN>
__device__ __forceinline__ void wgmma(uint64_t a, uint64_t b, float (&accumulator)[kN / 2],
                                      bool accumulate) {
  detail::wgmma<detail::Wgmma<Element, kN>>(a, b, accumulator, accumulate,
                                            std::make_index_sequence<kN / 2>{});
}

// Keeps the compiler from moving accesses to the accumulators across asynchronous products.
template <int kBlocks, int kRegisters>
__device__ __forceinline__ void pin_registers(float (&accumulators)[kBlocks][kRegisters]) {
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
    for (int i = 0; i < kRegisters; ++i) asm volatile("" : "+f"(accumulators[block][i])::"memory");
  }
}

__device__ __forceinline__ void fence_wgmma() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void commit_wgmma() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most kPending committed groups are unfinished.
template <int kPending>
__device__ __forceinline__ void wait_wgmma() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

}  // namespace fusedops::sm90
