#include "gemm_simd.h"
#include "vector_avx512.h"

namespace fusedops::cpu {
namespace {

// A word is a pair of bfloat16 neighbours along k; their two products are added to a float sum.
struct BFloat16PairsX16 : Float32x16 {
  static constexpr int elements_per_word = 2;

  using Float32x16::load;
  static Reg load(const BFloat16* p) { return _mm512_loadu_ps(p); }
  static Reg load(const BFloat16* p, int count) {
    const auto first = static_cast<__mmask32>((uint64_t{1} << count) - 1);
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(first, p));
  }
  static Reg multiply_add(Reg a, Reg b, Reg c) {
    return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static bool multiplies_exactly(Reg pairs) {
    const __m512i bits = _mm512_castps_si512(pairs);
    const __mmask32 no_exponent = _mm512_testn_epi16_mask(bits, _mm512_set1_epi16(0x7f80));
    return !_mm512_mask_test_epi16_mask(no_exponent, bits, _mm512_set1_epi16(0x7f));
  }
};

// The conversion instruction takes subnormal floats for zero.
struct Float32x16NativeNarrow : Float32x16 {
  using Float32x16::store;
  static void store(BFloat16* p, Reg a) { _mm256_storeu_si256(address(p), narrow(a)); }
  static void store(BFloat16* p, Reg a, int count) {
    _mm256_mask_storeu_epi16(p, first(count), narrow(a));
  }
  static __m256i narrow(Reg a) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a)); }
  static __m256i* address(BFloat16* p) { return reinterpret_cast<__m256i*>(p); }
};

void epilogue_bf16(const void* z, int64_t z_stride, const void* bias, double scale, void* out,
                   int64_t out_stride, int64_t rows, int64_t columns) {
  (result_may_be_subnormal(scale)
       ? epilogue<Float32x16, BFloat16>
       : epilogue<Float32x16NativeNarrow, BFloat16>)(z, z_stride, bias, scale, out, out_stride,
                                                     rows, columns);
}

MicroKernel with_alternative(MicroKernel kernel, const MicroKernel* alternative) {
  kernel.subnormal_alternative = alternative;
  return kernel;
}

}  // namespace

const Isa& avx512_bf16_isa() {
  constexpr int bf16 = static_cast<int>(DType::bfloat16);
  static const MicroKernel wide = with_alternative(
      PackedGemm<BFloat16PairsX16, BFloat16, 14, 2>::table, avx512_isa().gemm[bf16]);
  static const MicroKernel narrow = with_alternative(
      PackedGemm<BFloat16PairsX16, BFloat16, 28, 1>::table, avx512_isa().narrow_gemm[bf16]);
  static const Isa isa = [] {
    Isa with_bf16 = avx512_isa();
    with_bf16.name = "avx512_bf16";
    with_bf16.epilogue[bf16] = epilogue_bf16;
    with_bf16.gemm[bf16] = &wide;
    with_bf16.narrow_gemm[bf16] = &narrow;
    return with_bf16;
  }();
  return isa;
}

}  // namespace fusedops::cpu
