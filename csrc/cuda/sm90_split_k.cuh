#pragma once

#include "cuda/sm90_config.cuh"

// The blocks of a split K add up their accumulators: each sends every other its part of that one's
// share of the columns, and adds what it receives to its own, in the order of the parts.
namespace fusedops::sm90 {

template <class Config>
using Accumulators = float[Config::kBlocksM][Config::kTileN / 2];

// For thread `thread` of a consumer warpgroup. `block_of_part(p)` is the rank of the block with
// part p of this tile; all of them are ready for these sums.
template <class Config, class BlockOfPart>
__device__ __forceinline__ void add_parts(
    SharedStorage<Config>& shared, int consumer, int thread, uint32_t own_part,
    BlockOfPart block_of_part, uint32_t parity, const Accumulators<Config>& accumulators,
    float (&sums)[Config::kBlocksM][Config::kShareColumns / 2]) {
  constexpr int kShare =
      Config::kShareColumns / 2;  // of a thread's accumulators in a block of rows
  constexpr int kGroups = Config::kShareColumns / 8;
  // The slot, in a block with part `receiver`, for what comes from part `sender`.
  const auto slot = [](uint32_t sender, uint32_t receiver) {
    return sender < receiver ? sender : sender - 1;
  };
  uint64_t& received = shared.received[consumer];
  if (thread == 0) {
    arrive_expecting(
        received, (Config::kSplitK - 1) * Config::kBlocksM * kGroups * kWarpgroup * sizeof(float4));
  }
#pragma unroll
  for (int part = 0; part < Config::kSplitK; ++part) {
    if (part == own_part) continue;
    const uint32_t barrier = address_in_block(&received, block_of_part(part));
    const uint32_t target = address_in_block(
        &shared.partial.part[slot(own_part, part)][consumer][0][0][thread], block_of_part(part));
#pragma unroll
    for (int block = 0; block < Config::kBlocksM; ++block) {
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        const float* const four = &accumulators[block][part * kShare + 4 * group];
        send_to_block(target + (block * kGroups + group) * kWarpgroup * sizeof(float4),
                      {four[0], four[1], four[2], four[3]}, barrier);
      }
    }
  }
  wait_for_other_blocks(received, parity);

#pragma unroll
  for (int block = 0; block < Config::kBlocksM; ++block) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      float own[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        own[i] = accumulators[block][4 * group + i];
#pragma unroll
        for (int part = 1; part < Config::kSplitK; ++part) {
          if (part == own_part) own[i] = accumulators[block][part * kShare + 4 * group + i];
        }
        sums[block][4 * group + i] = 0.0f;
      }
#pragma unroll
      for (int part = 0; part < Config::kSplitK; ++part) {
        float4 addend{own[0], own[1], own[2], own[3]};
        if (part != own_part) {
          addend = shared.partial.part[slot(part, own_part)][consumer][block][group][thread];
        }
        sums[block][4 * group] += addend.x;
        sums[block][4 * group + 1] += addend.y;
        sums[block][4 * group + 2] += addend.z;
        sums[block][4 * group + 3] += addend.w;
      }
    }
  }
}

}  // namespace fusedops::sm90
