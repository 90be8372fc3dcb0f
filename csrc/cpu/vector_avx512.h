#pragma once

#include <immintrin.h>

#include "epilogue_simd.h"

namespace fusedops::cpu {
namespace {

struct Float32x16 {
  using Scalar = float;
  using Reg = __m512;
  static constexpr int width = 16;
  static constexpr int elements_per_word = 1;

  static __mmask16 first(int count) { return static_cast<__mmask16>((1u << count) - 1); }
  static Reg set1(float value) { return _mm512_set1_ps(value); }
  static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static Reg div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static Reg multiply_add(Reg a, Reg b, Reg c) { return fma(a, b, c); }
  static constexpr bool multiplies_exactly(Reg) { return true; }
  static Reg max_or_nan(Reg a, Reg b) { return _mm512_max_ps(a, b); }  // b if either is NaN
  static Reg negative_abs(Reg a) { return _mm512_or_ps(a, set1(-0.0f)); }
  static Reg where_negative(Reg condition, Reg yes, Reg no) {
    return _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(condition)), no, yes);
  }
  // Steps of 1/16, with their powers of two in one register, leave |r| <= ln 2 / 32.
  static constexpr int exp_degree = 3;
  static Reg round_to_step(Reg a) {
    return _mm512_roundscale_ps(a, 4 << 4 | _MM_FROUND_TO_NEAREST_INT);
  }
  static Reg exp2_fraction(Reg n) {
    const Reg powers =
        _mm512_setr_ps(1.0f, 1.04427378f, 1.09050773f, 1.13878863f, 1.18920712f, 1.24185781f,
                       1.29683955f, 1.35425555f, 1.41421356f, 1.47682615f, 1.54221083f, 1.61049033f,
                       1.68179283f, 1.75625216f, 1.83400809f, 1.91520656f);
    const Reg sixteenths_in_low_bits = add(n, set1(0x1.8p19f));
    return _mm512_permutexvar_ps(_mm512_castps_si512(sixteenths_in_low_bits), powers);
  }
  static Reg ldexp(Reg a, Reg n) { return _mm512_scalef_ps(a, n); }  // a * 2^floor(n)

  static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static Reg load(const float* p, int count) { return _mm512_maskz_loadu_ps(first(count), p); }
  static void store(float* p, Reg a) { _mm512_storeu_ps(p, a); }
  static void store(float* p, Reg a, int count) { _mm512_mask_storeu_ps(p, first(count), a); }

  static __m256i load16(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  static __m256i load16(const void* p, int count) {
    return _mm256_maskz_loadu_epi16(first(count), p);
  }
  static Reg widen(__m256i bits, Float16) { return _mm512_cvtph_ps(bits); }
  static Reg widen(__m256i bits, BFloat16) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  template <class Half>
  static Reg load(const Half* p) {
    return widen(load16(p), Half{});
  }
  template <class Half>
  static Reg load(const Half* p, int count) {
    return widen(load16(p, count), Half{});
  }

  static __m256i narrow(Reg a, Float16) {
    return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // `a` comes out of arithmetic, so its NaNs are quiet already: they are cut off, not rounded.
  static __m256i narrow(Reg a, BFloat16) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __mmask16 number = _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q);
    const __m512i rounded =
        _mm512_mask_add_epi32(bits, number, bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i upper_halves = _mm512_castsi256_si512(
        _mm256_setr_epi16(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31));
    return _mm512_castsi512_si256(_mm512_permutexvar_epi16(upper_halves, rounded));
  }
  template <class Half>
  static void store(Half* p, Reg a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(a, Half{}));
  }
  template <class Half>
  static void store(Half* p, Reg a, int count) {
    _mm256_mask_storeu_epi16(p, first(count), narrow(a, Half{}));
  }

  static void transpose(Reg (&r)[16]) {
    Reg t[16];
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      const auto pair = [&](int j) { return _mm512_castps_pd(t[i + j]); };
      r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pair(0), pair(2)));
      r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pair(0), pair(2)));
      r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pair(1), pair(3)));
      r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pair(1), pair(3)));
    }
    for (int j = 0; j < 4; ++j) {
      const Reg low01 = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x44);
      const Reg high01 = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xee);
      const Reg low23 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x44);
      const Reg high23 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xee);
      r[j] = _mm512_shuffle_f32x4(low01, low23, 0x88);
      r[4 + j] = _mm512_shuffle_f32x4(low01, low23, 0xdd);
      r[8 + j] = _mm512_shuffle_f32x4(high01, high23, 0x88);
      r[12 + j] = _mm512_shuffle_f32x4(high01, high23, 0xdd);
    }
  }
};

struct Float64x8 {
  using Scalar = double;
  using Reg = __m512d;
  static constexpr int width = 8;
  static constexpr int elements_per_word = 1;

  static __mmask8 first(int count) { return static_cast<__mmask8>((1u << count) - 1); }
  static Reg set1(double value) { return _mm512_set1_pd(value); }
  static Reg add(Reg a, Reg b) { return _mm512_add_pd(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_pd(a, b); }
  static Reg div(Reg a, Reg b) { return _mm512_div_pd(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
  static Reg multiply_add(Reg a, Reg b, Reg c) { return fma(a, b, c); }
  static constexpr bool multiplies_exactly(Reg) { return true; }
  static Reg max_or_nan(Reg a, Reg b) { return _mm512_max_pd(a, b); }
  static Reg negative_abs(Reg a) { return _mm512_or_pd(a, set1(-0.0)); }
  static Reg where_negative(Reg condition, Reg yes, Reg no) {
    return _mm512_mask_blend_pd(_mm512_movepi64_mask(_mm512_castpd_si512(condition)), no, yes);
  }
  static Reg round_to_step(Reg a) { return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT); }
  static constexpr int exp_degree = 13;
  static Reg exp2_fraction(Reg) { return set1(1); }
  static Reg ldexp(Reg a, Reg n) { return _mm512_scalef_pd(a, n); }

  static Reg load(const double* p) { return _mm512_loadu_pd(p); }
  static Reg load(const double* p, int count) { return _mm512_maskz_loadu_pd(first(count), p); }
  static void store(double* p, Reg a) { _mm512_storeu_pd(p, a); }
  static void store(double* p, Reg a, int count) { _mm512_mask_storeu_pd(p, first(count), a); }

  static void transpose(Reg (&r)[8]) {
    Reg t[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm512_unpacklo_pd(r[i], r[i + 1]);
      t[i + 1] = _mm512_unpackhi_pd(r[i], r[i + 1]);
    }
    for (int j = 0; j < 2; ++j) {
      const Reg low01 = _mm512_shuffle_f64x2(t[j], t[2 + j], 0x44);
      const Reg high01 = _mm512_shuffle_f64x2(t[j], t[2 + j], 0xee);
      const Reg low23 = _mm512_shuffle_f64x2(t[4 + j], t[6 + j], 0x44);
      const Reg high23 = _mm512_shuffle_f64x2(t[4 + j], t[6 + j], 0xee);
      r[j] = _mm512_shuffle_f64x2(low01, low23, 0x88);
      r[2 + j] = _mm512_shuffle_f64x2(low01, low23, 0xdd);
      r[4 + j] = _mm512_shuffle_f64x2(high01, high23, 0x88);
      r[6 + j] = _mm512_shuffle_f64x2(high01, high23, 0xdd);
    }
  }
};

}  // namespace
}  // namespace fusedops::cpu
