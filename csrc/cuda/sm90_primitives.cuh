#pragma once

#include <cuda.h>

#include <cstdint>

// Hopper's asynchronous machinery, one PTX instruction a function: mbarriers, the tensor memory
// accelerator (TMA), named barriers, register reallocation, clusters.
namespace fusedops::sm90 {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// ---- mbarriers ---------------------------------------------------------------------------------

__device__ __forceinline__ void init_barrier(uint64_t& barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)),
               "r"(arrivals)
               : "memory");
}

// Makes initialised barriers visible to the other blocks of the cluster and to the TMA unit.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void arrive(uint64_t& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier))
               : "memory");
}

__device__ __forceinline__ void arrive_expecting(uint64_t& barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
      "r"(bytes)
      : "memory");
}

// The address, in the cluster's shared memory, that `pointer` has in block `rank`.
__device__ __forceinline__ uint32_t address_in_block(const void* pointer, uint32_t rank) {
  uint32_t address;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(address)
               : "r"(shared_address(pointer)), "r"(rank));
  return address;
}

// Orders no memory of the caller's: enough where only wgmma has read what is handed back.
__device__ __forceinline__ void arrive_in_block(uint64_t& barrier, uint32_t rank) {
  asm volatile(
      "mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(address_in_block(&barrier, rank))
      : "memory");
}

// Returns once the barrier's phase of this parity has completed. A fresh barrier counts as having
// completed the phase of parity 1.
__device__ __forceinline__ void wait(uint64_t& barrier, uint32_t parity) {
  uint32_t completed;
  do {
    asm volatile(
        "{\n"
        ".reg .pred completed;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 completed, [%1], %2;\n"
        "selp.b32 %0, 1, 0, completed;\n"
        "}\n"
        : "=r"(completed)
        : "r"(shared_address(&barrier)), "r"(parity)
        : "memory");
  } while (completed == 0);
}

// The same for what other blocks of the cluster have sent.
__device__ __forceinline__ void wait_for_other_blocks(uint64_t& barrier, uint32_t parity) {
  uint32_t completed;
  do {
    asm volatile(
        "{\n"
        ".reg .pred completed;\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 completed, [%1], %2;\n"
        "selp.b32 %0, 1, 0, completed;\n"
        "}\n"
        : "=r"(completed)
        : "r"(shared_address(&barrier)), "r"(parity)
        : "memory");
  } while (completed == 0);
}

// ---- TMA ---------------------------------------------------------------------------------------

__device__ __forceinline__ void prefetch_descriptor(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(&map)) : "memory");
}

__device__ __forceinline__ void prefetch_to_l2(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

__device__ __forceinline__ void load_box(const CUtensorMap& map, uint64_t& barrier,
                                         void* destination, int column, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(destination)),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&barrier)), "r"(column), "r"(row)
      : "memory");
}

// Writes the box, and counts its bytes, at the same offsets in every block of the mask.
__device__ __forceinline__ void load_box_multicast(const CUtensorMap& map, uint64_t& barrier,
                                                   void* destination, int column, int row,
                                                   uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::"r"(shared_address(destination)),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&barrier)), "h"(blocks),
      "r"(column), "r"(row)
      : "memory");
}

// By every thread for which the condition holds. Predicated, so that no branch keeps the compiler
// from spreading what comes before and after.
__device__ __forceinline__ void store_box_if(bool condition, const CUtensorMap& map,
                                             const void* source, int column, int row) {
  asm volatile(
      "{\n"
      ".reg .pred condition;\n"
      "setp.ne.s32 condition, %4, 0;\n"
      "@condition cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];\n"
      "}\n" ::"l"(reinterpret_cast<uint64_t>(&map)),
      "r"(shared_address(source)), "r"(column), "r"(row), "r"(static_cast<int>(condition))
      : "memory");
}

__device__ __forceinline__ void commit_stores() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Waits until all but the newest `kPending` committed groups have read their shared memory.
template <int kPending>
__device__ __forceinline__ void wait_until_stores_have_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

// Ordinary writes to shared memory before it are seen by TMA stores after it.
__device__ __forceinline__ void fence_shared_for_tma() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---- threads -----------------------------------------------------------------------------------

constexpr int kWarp = 32;
constexpr int kWarpgroup = 128;
constexpr int kWarpsPerWarpgroup = kWarpgroup / kWarp;

// __syncthreads in two halves, for warps that only signal and for those that wait: barrier 0.
template <int kThreads>
__device__ __forceinline__ void arrive_at_block() {
  asm volatile("bar.arrive 0, %0;" ::"n"(kThreads) : "memory");
}

template <int kThreads>
__device__ __forceinline__ void sync_block() {
  asm volatile("bar.sync 0, %0;" ::"n"(kThreads) : "memory");
}

__device__ __forceinline__ void sync_warpgroup(int named_barrier) {
  asm volatile("bar.sync %0, %1;" ::"r"(named_barrier), "n"(kWarpgroup) : "memory");
}

template <int kRegisters>
__device__ __forceinline__ void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

__device__ __forceinline__ uint32_t block_rank_in_cluster() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// The two halves of a meeting of the cluster's threads that orders no memory but the initialisation
// of barriers, which has its own fence.
__device__ __forceinline__ void arrive_at_cluster_unordered() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

__device__ __forceinline__ void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}

// Every thread of the cluster that has not exited arrives; what they wrote is then visible to all.
__device__ __forceinline__ void sync_cluster() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}

// To an address in the cluster's shared memory; its bytes count towards the barrier there.
__device__ __forceinline__ void send_to_block(uint32_t address, float4 value, uint32_t barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(address),
      "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ float load_cluster_shared(uint32_t address) {
  float value;
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
  return value;
}

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8, or
// where they are transposed on the way, of its column.
__device__ __forceinline__ void store_matrices(void* row, const uint32_t (&matrices)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
      "r"(matrices[0]), "r"(matrices[1]), "r"(matrices[2]), "r"(matrices[3])
      : "memory");
}

__device__ __forceinline__ void store_matrices_transposed(void* column,
                                                          const uint32_t (&matrices)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   shared_address(column)),
               "r"(matrices[0]), "r"(matrices[1]), "r"(matrices[2]), "r"(matrices[3])
               : "memory");
}

}  // namespace fusedops::sm90
