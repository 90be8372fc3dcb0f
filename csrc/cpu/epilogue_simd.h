#pragma once

#include "isa.h"

// The epilogue, written once for any vector type V. Included by one source file per instruction
// set, so everything here has internal linkage: the linker must never replace one instruction
// set's copy by another's.
namespace fusedops::cpu {
namespace {

struct Float16 {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

template <class Scalar>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float log2e = 1.44269504f;
  static constexpr float ln2_high = 0.693359375f;  // 9 bits: n * ln2_high is exact
  static constexpr float ln2_low = -2.12194440e-4f;
  static constexpr float underflow = -104.0f;  // exp rounds to zero from here on
};

template <>
struct ExpConstants<double> {
  static constexpr double log2e = 1.4426950408889634;
  static constexpr double ln2_high = 6.93147180369123816490e-01;  // 33 bits
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr double underflow = -746.0;
};

constexpr double inverse_factorial(int n) { return n <= 1 ? 1.0 : inverse_factorial(n - 1) / n; }

constexpr int floor_log2(int n) { return n <= 1 ? 0 : 1 + floor_log2(n / 2); }

// The Taylor terms of exp(r) of degrees First to First + Count - 1, over r^First. Split in halves:
// fewer operations wait for one another than in Horner's rule. powers[i] = r^(2^i).
template <class V, int First, int Count>
inline typename V::Reg exp_terms(const typename V::Reg* powers) {
  if constexpr (Count == 1) {
    return V::set1(static_cast<typename V::Scalar>(inverse_factorial(First)));
  } else {
    constexpr int level = floor_log2(Count - 1);
    constexpr int lower = 1 << level;
    return V::fma(exp_terms<V, First + lower, Count - lower>(powers), powers[level],
                  exp_terms<V, First, lower>(powers));
  }
}

// exp(t) for t <= 0, gradual underflow included; NaN stays NaN. t = n ln 2 + r, where V rounds n to
// the steps whose fractional powers of two it knows.
template <class V>
inline typename V::Reg exp_nonpositive(typename V::Reg t) {
  using C = ExpConstants<typename V::Scalar>;
  t = V::max_or_nan(V::set1(C::underflow), t);
  const auto n = V::round_to_step(V::mul(t, V::set1(C::log2e)));
  auto r = V::fma(n, V::set1(-C::ln2_high), t);
  r = V::fma(n, V::set1(-C::ln2_low), r);
  typename V::Reg powers[4] = {r};
  for (int i = 1; i < 4; ++i) powers[i] = V::mul(powers[i - 1], powers[i - 1]);
  const auto exp_minus_one = V::fma(powers[1], exp_terms<V, 2, V::exp_degree - 1>(powers), r);
  const auto fraction = V::exp2_fraction(n);
  return V::ldexp(V::fma(fraction, exp_minus_one, fraction), n);
}

// exp only ever sees -|z|: it cannot overflow, and a tiny sigmoid keeps its relative accuracy.
template <class V>
inline typename V::Reg sigmoid(typename V::Reg z) {
  const auto one = V::set1(1);
  const auto e = exp_nonpositive<V>(V::negative_abs(z));
  return V::div(V::where_negative(z, e, one), V::add(one, e));
}

template <class V>
inline typename V::Reg sigmoid_residual(typename V::Reg z, typename V::Reg scale) {
  return V::fma(scale, sigmoid<V>(z), z);
}

template <class V, class Out>
void epilogue(const void* z_data, int64_t z_stride, const void* bias_data, double scale,
              void* out_data, int64_t out_stride, int64_t rows, int64_t columns) {
  using Scalar = typename V::Scalar;
  const auto* z = static_cast<const Scalar*>(z_data);
  const auto* bias = static_cast<const Scalar*>(bias_data);
  auto* out = static_cast<Out*>(out_data);
  const auto s = V::set1(static_cast<Scalar>(scale));
  const int64_t whole = columns - columns % V::width;
  const int rest = static_cast<int>(columns - whole);
  for (int64_t i = 0; i < rows; ++i, z += z_stride, out += out_stride) {
    for (int64_t j = 0; j < whole; j += V::width) {
      auto t = V::load(z + j);
      if (bias) t = V::add(t, V::load(bias + j));
      V::store(out + j, sigmoid_residual<V>(t, s));
    }
    if (rest) {
      auto t = V::load(z + whole, rest);
      if (bias) t = V::add(t, V::load(bias + whole, rest));
      V::store(out + whole, sigmoid_residual<V>(t, s), rest);
    }
  }
}

template <class V, class In>
void widen(const void* source_data, float* destination, int64_t count) {
  const auto* source = static_cast<const In*>(source_data);
  int64_t i = 0;
  for (; i + V::width <= count; i += V::width) V::store(destination + i, V::load(source + i));
  if (i < count) {
    const int rest = static_cast<int>(count - i);
    V::store(destination + i, V::load(source + i, rest), rest);
  }
}

template <class F32, class F64>
constexpr std::array<Epilogue, kDTypes> epilogues() {
  return {epilogue<F32, Float16>, epilogue<F32, BFloat16>, epilogue<F32, float>,
          epilogue<F64, double>};
}

template <class F32>
constexpr std::array<Widen, kDTypes> widenings() {
  return {widen<F32, Float16>, widen<F32, BFloat16>, nullptr, nullptr};
}

}  // namespace
}  // namespace fusedops::cpu
