#pragma once

#include "cuda/sm90_primitives.cuh"

namespace fusedops::sm90 {

// Where the parts of K meet if a cluster of blocks has them: as skinny_fp32::WithinBlock. Each sum
// is sent to the block that owns its output, and counts towards that block's barrier.
template <int kBlocks_>
struct WithinCluster {
  static constexpr int kBlocks = kBlocks_;

  __device__ __forceinline__ static int rank() { return block_rank_in_cluster(); }

  // The other blocks may not be there yet.
  __device__ __forceinline__ void begin(int bytes) {
    __shared__ uint64_t barrier;
    all_received = &barrier;
    if (threadIdx.x == 0) {
      init_barrier(barrier, 1);
      arrive_expecting(barrier, bytes);
      fence_barrier_init();
    }
    __syncwarp();
    arrive_at_cluster_unordered();
  }

  __device__ __forceinline__ void wait_for_others() { wait_for_cluster(); }

  __device__ __forceinline__ void give(float* place, int block, float sum) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(
                     address_in_block(place, block)),
                 "f"(sum), "r"(address_in_block(all_received, block))
                 : "memory");
  }

  __device__ __forceinline__ void finish() { wait_for_other_blocks(*all_received, 0); }

  uint64_t* all_received;
};

}  // namespace fusedops::sm90
