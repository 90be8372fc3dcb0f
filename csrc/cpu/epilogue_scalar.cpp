#include <cmath>
#include <cstring>

#include "backward_simd.h"

namespace fusedops::cpu {
namespace {

template <class To, class From>
To bit_cast(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

float widen(BFloat16 value) { return bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

float widen(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
  const uint32_t exponent = value.bits >> 10 & 0x1f;
  const uint32_t mantissa = value.bits & 0x3ff;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  if (exponent == 0x1f) {
    const uint32_t quiet = mantissa ? 0x400000 : 0;
    return bit_cast<float>(sign | 0x7f800000 | quiet | mantissa << 13);
  }
  return bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

// The upper bits of `bits`, rounded to nearest even at bit `shift`.
uint32_t round_shift(uint32_t bits, int shift) {
  const uint32_t odd = bits >> shift & 1;
  return (bits + (uint32_t{1} << (shift - 1)) - 1 + odd) >> shift;
}

void narrow(float value, BFloat16* out) {
  const auto bits = bit_cast<uint32_t>(value);
  out->bits = static_cast<uint16_t>(value != value ? bits >> 16 | 0x40 : round_shift(bits, 16));
}

void narrow(float value, Float16* out) {
  const auto bits = bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t half;
  if (value != value) {
    half = 0x7e00 | (magnitude >> 13 & 0x3ff);
  } else if (magnitude >= 0x477ff000) {  // 65520 and above
    half = 0x7c00;
  } else if (magnitude >= 0x38800000) {  // normal: 2^-14 and above
    half = round_shift(magnitude - (uint32_t{112} << 23), 13);
  } else {  // adding 1/2 leaves the multiple of 2^-24 in the low bits, rounded by the addition
    half = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - bit_cast<uint32_t>(0.5f);
  }
  out->bits = static_cast<uint16_t>(sign | half);
}

template <class Float>
struct OneElement {
  using Scalar = Float;
  using Reg = Float;
  static constexpr int width = 1;

  static Reg set1(Float value) { return value; }
  static Reg add(Reg a, Reg b) { return a + b; }
  static Reg mul(Reg a, Reg b) { return a * b; }
  static Reg div(Reg a, Reg b) { return a / b; }
  static Reg fma(Reg a, Reg b, Reg c) { return a * b + c; }
  static Reg max_or_nan(Reg a, Reg b) { return b < a ? a : b; }
  static Reg negative_abs(Reg a) { return a < 0 ? a : -a; }
  static Reg where_negative(Reg condition, Reg yes, Reg no) { return condition < 0 ? yes : no; }
  static Reg round_to_step(Reg a) {  // |a| is small: the sum has no fractional bits
    constexpr Reg shift = sizeof(Reg) == 4 ? Reg(0x1.8p23) : Reg(0x1.8p52);
    return (a + shift) - shift;
  }
  static constexpr int exp_degree = sizeof(Float) == 4 ? 7 : 13;
  static Reg exp2_fraction(Reg) { return set1(1); }
  static Reg power_of_two(int n) {
    if constexpr (sizeof(Reg) == 4) {
      return bit_cast<float>(static_cast<uint32_t>(n + 127) << 23);
    } else {
      return bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52);
    }
  }
  static Reg ldexp(Reg a, Reg n) {
    if (a != a) return a;
    const int whole = static_cast<int>(n);
    const int half = whole / 2;
    return a * power_of_two(half) * power_of_two(whole - half);
  }

  static Reg load(const Float* p) { return *p; }
  static Reg load(const Float* p, int) { return *p; }
  static void store(Float* p, Reg a) { *p = a; }
  static void store(Float* p, Reg a, int) { *p = a; }
  template <class Half>
  static Reg load(const Half* p) {
    return widen(*p);
  }
  template <class Half>
  static Reg load(const Half* p, int) {
    return widen(*p);
  }
  template <class Half>
  static void store(Half* p, Reg a) {
    narrow(a, p);
  }
  template <class Half>
  static void store(Half* p, Reg a, int) {
    narrow(a, p);
  }
};

}  // namespace

const Isa& scalar_isa() {
  static constexpr Isa isa = {"scalar",
                              epilogues<OneElement<float>, OneElement<double>>(),
                              backwards<OneElement<float>, OneElement<double>>(),
                              widenings<OneElement<float>>(),
                              {},
                              {}};
  return isa;
}

}  // namespace fusedops::cpu
