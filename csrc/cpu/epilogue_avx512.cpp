#include "backward_simd.h"
#include "gemm_simd.h"
#include "vector_avx512.h"

namespace fusedops::cpu {

const Isa& avx512_isa() {
  // 14 x 2 sums, 2 columns and 1 row fill 31 of the 32 vector registers.
  static constexpr Isa isa = {"avx512",
                              epilogues<Float32x16, Float64x8>(),
                              backwards<Float32x16, Float64x8>(),
                              widenings<Float32x16>(),
                              micro_kernels<Float32x16, Float64x8, 14, 2>(),
                              micro_kernels<Float32x16, Float64x8, 28, 1>()};
  return isa;
}

}  // namespace fusedops::cpu
