#include <immintrin.h>

#include "backward_simd.h"
#include "gemm_simd.h"

namespace fusedops::cpu {
namespace {

struct Float32x8 {
  using Scalar = float;
  using Reg = __m256;
  static constexpr int width = 8;
  static constexpr int elements_per_word = 1;

  static __m256i first(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Reg set1(float value) { return _mm256_set1_ps(value); }
  static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static Reg div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static Reg multiply_add(Reg a, Reg b, Reg c) { return fma(a, b, c); }
  static constexpr bool multiplies_exactly(Reg) { return true; }
  static Reg max_or_nan(Reg a, Reg b) { return _mm256_max_ps(a, b); }  // b if either is NaN
  static Reg negative_abs(Reg a) { return _mm256_or_ps(a, set1(-0.0f)); }
  static Reg where_negative(Reg condition, Reg yes, Reg no) {
    return _mm256_blendv_ps(no, yes, condition);
  }
  static Reg round_to_step(Reg a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static constexpr int exp_degree = 7;
  static Reg exp2_fraction(Reg) { return set1(1); }
  static Reg power_of_two(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
  // In two factors: 2^n itself may be too small for a normal number.
  static Reg ldexp(Reg a, Reg n) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    return mul(mul(a, power_of_two(half)), power_of_two(_mm256_sub_epi32(whole, half)));
  }

  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static Reg load(const float* p, int count) { return _mm256_maskload_ps(p, first(count)); }
  static void store(float* p, Reg a) { _mm256_storeu_ps(p, a); }
  static void store(float* p, Reg a, int count) { _mm256_maskstore_ps(p, first(count), a); }

  static Reg widen(__m128i bits, Float16) { return _mm256_cvtph_ps(bits); }
  static Reg widen(__m128i bits, BFloat16) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  template <class Half>
  static Reg load(const Half* p) {
    return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), Half{});
  }
  template <class Half>
  static Reg load(const Half* p, int count) {
    Half buffer[width] = {};
    for (int i = 0; i < count; ++i) buffer[i] = p[i];
    return load(buffer);
  }

  static __m128i narrow(Reg a, Float16) {
    return _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static __m128i narrow(Reg a, BFloat16) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  }
  template <class Half>
  static void store(Half* p, Reg a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(a, Half{}));
  }
  template <class Half>
  static void store(Half* p, Reg a, int count) {
    Half buffer[width];
    store(buffer, a);
    for (int i = 0; i < count; ++i) p[i] = buffer[i];
  }

  static void transpose(Reg (&r)[8]) {
    Reg t[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      const auto pair = [&](int j) { return _mm256_castps_pd(t[i + j]); };
      r[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(pair(0), pair(2)));
      r[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(pair(0), pair(2)));
      r[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(pair(1), pair(3)));
      r[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(pair(1), pair(3)));
    }
    for (int j = 0; j < 4; ++j) {
      const Reg low = _mm256_permute2f128_ps(r[j], r[4 + j], 0x20);
      r[4 + j] = _mm256_permute2f128_ps(r[j], r[4 + j], 0x31);
      r[j] = low;
    }
  }
};

struct Float64x4 {
  using Scalar = double;
  using Reg = __m256d;
  static constexpr int width = 4;
  static constexpr int elements_per_word = 1;

  static __m256i first(int count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  static Reg set1(double value) { return _mm256_set1_pd(value); }
  static Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_pd(a, b); }
  static Reg div(Reg a, Reg b) { return _mm256_div_pd(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
  static Reg multiply_add(Reg a, Reg b, Reg c) { return fma(a, b, c); }
  static constexpr bool multiplies_exactly(Reg) { return true; }
  static Reg max_or_nan(Reg a, Reg b) { return _mm256_max_pd(a, b); }
  static Reg negative_abs(Reg a) { return _mm256_or_pd(a, set1(-0.0)); }
  static Reg where_negative(Reg condition, Reg yes, Reg no) {
    return _mm256_blendv_pd(no, yes, condition);
  }
  static Reg round_to_step(Reg a) {
    return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static constexpr int exp_degree = 13;
  static Reg exp2_fraction(Reg) { return set1(1); }
  static Reg power_of_two(__m256i n) {
    return _mm256_castsi256_pd(
        _mm256_slli_epi64(_mm256_add_epi64(n, _mm256_set1_epi64x(1023)), 52));
  }
  static Reg ldexp(Reg a, Reg n) {
    const __m128i whole = _mm256_cvtpd_epi32(n);
    const __m128i half = _mm_srai_epi32(whole, 1);
    return mul(mul(a, power_of_two(_mm256_cvtepi32_epi64(half))),
               power_of_two(_mm256_cvtepi32_epi64(_mm_sub_epi32(whole, half))));
  }

  static Reg load(const double* p) { return _mm256_loadu_pd(p); }
  static Reg load(const double* p, int count) { return _mm256_maskload_pd(p, first(count)); }
  static void store(double* p, Reg a) { _mm256_storeu_pd(p, a); }
  static void store(double* p, Reg a, int count) { _mm256_maskstore_pd(p, first(count), a); }

  static void transpose(Reg (&r)[4]) {
    const Reg t0 = _mm256_unpacklo_pd(r[0], r[1]);
    const Reg t1 = _mm256_unpackhi_pd(r[0], r[1]);
    const Reg t2 = _mm256_unpacklo_pd(r[2], r[3]);
    const Reg t3 = _mm256_unpackhi_pd(r[2], r[3]);
    r[0] = _mm256_permute2f128_pd(t0, t2, 0x20);
    r[1] = _mm256_permute2f128_pd(t1, t3, 0x20);
    r[2] = _mm256_permute2f128_pd(t0, t2, 0x31);
    r[3] = _mm256_permute2f128_pd(t1, t3, 0x31);
  }
};

}  // namespace

const Isa& avx2_isa() {
  // 6 x 2 sums, 2 columns and 1 row fill 15 of the 16 vector registers.
  static constexpr Isa isa = {"avx2",
                              epilogues<Float32x8, Float64x4>(),
                              backwards<Float32x8, Float64x4>(),
                              widenings<Float32x8>(),
                              micro_kernels<Float32x8, Float64x4, 6, 2>(),
                              micro_kernels<Float32x8, Float64x4, 12, 1>()};
  return isa;
}

}  // namespace fusedops::cpu
