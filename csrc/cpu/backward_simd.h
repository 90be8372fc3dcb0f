#pragma once

#include "epilogue_simd.h"

// The gradient with respect to z, written once for any vector type V. Internal linkage, as in
// epilogue_simd.h.
//
// From y: Y = y - scale / 2 is z + scale / 2 * tanh(z / 2), which is odd in z, and dy/dz is even. A
// guess t of the tanh is one of z, and Newton's step corrects tanh(z / 2) - t: no infinities are
// subtracted, and an infinite y has slope 1. Everything is done for -|z|, which is all that exp
// sees. Steps are Householder's of third order; the last moves the slope and not z.
namespace fusedops::cpu {
namespace {

template <class V>
struct SlopeFromY {
  using Reg = typename V::Reg;
  using Scalar = typename V::Scalar;

  SlopeFromY(double scale, int count)
      : steps(count),
        one(V::set1(1)),
        scale(V::set1(static_cast<Scalar>(scale))),
        half(V::set1(static_cast<Scalar>(0.5 * scale))),
        minus_half(V::set1(static_cast<Scalar>(-0.5 * scale))),
        guess(V::set1(static_cast<Scalar>(2 / (2 + 0.5 * scale)))),
        bending(V::set1(static_cast<Scalar>(-0.25 * scale * scale))) {}

  // What a step needs of z, and what it finds.
  struct Step {
    Reg first, tanh, reciprocal, newton;
  };

  Step step(Reg minus_z, Reg t) const {
    const Reg e = exp_nonpositive<V>(minus_z);
    const Reg sigmoid = V::div(one, V::add(one, e));
    Step s;
    s.first = V::mul(V::mul(e, sigmoid), sigmoid);
    s.tanh = V::mul(V::fma(e, V::set1(-1), one), sigmoid);
    s.reciprocal = V::div(one, V::fma(scale, s.first, one));
    s.newton = V::mul(V::fma(t, V::set1(-1), s.tanh), s.reciprocal);
    return s;
  }

  Reg operator()(Reg y) const {
    const Reg minus_y = V::negative_abs(V::add(y, minus_half));
    const Reg e = exp_nonpositive<V>(V::mul(minus_y, guess));
    Reg t = V::div(V::fma(e, V::set1(-1), one), V::add(one, e));
    Reg minus_z = V::fma(half, t, minus_y);
    for (int i = 1; i < steps; ++i) {
      const Step s = step(minus_z, t);
      const Reg bend = V::mul(V::mul(V::mul(s.first, s.tanh), s.reciprocal), s.newton);
      t = V::fma(s.newton, V::fma(bending, bend, one), t);
      minus_z = V::fma(half, t, minus_y);
    }
    const Step s = step(minus_z, t);
    const Reg move = V::mul(half, s.newton);
    const Reg bend = V::mul(V::mul(V::mul(s.first, s.tanh), s.reciprocal), s.tanh);
    const Reg third = V::fma(minus_half, bend, V::fma(V::set1(-3), s.first, V::set1(Scalar(0.5))));
    const Reg moved = V::fma(move, V::fma(move, third, s.tanh), one);
    return V::fma(V::mul(scale, s.first), moved, one);
  }

  int steps;
  Reg one, scale, half, minus_half, guess, bending;
};

template <class V>
struct FromZ {
  using Reg = typename V::Reg;

  // dy/dz; and sigmoid(z).
  Reg operator()(Reg z, Reg* sigmoid) const {
    const Reg e = exp_nonpositive<V>(V::negative_abs(z));
    const Reg larger = V::div(one, V::add(one, e));
    const Reg smaller = V::mul(e, larger);
    *sigmoid = V::where_negative(z, smaller, larger);
    return V::fma(scale, V::mul(larger, smaller), one);
  }

  Reg one, scale;
};

template <class V>
double sum_of_lanes(typename V::Reg sum) {
  typename V::Scalar lanes[V::width];
  V::store(lanes, sum);
  double total = 0;
  for (const auto lane : lanes) total += lane;
  return total;
}

// `slope` of (saved, &sigmoid), over a part of the rows.
template <class V, class Element, class Slope>
void backward_rows(const BackwardPart& part, const Slope& slope) {
  using Scalar = typename V::Scalar;
  constexpr int64_t kBlock = 1024;  // columns whose sums stay in the first-level cache
  const auto* grads = static_cast<const Element*>(part.grad);
  const auto* saveds = static_cast<const Element*>(part.saved);
  auto* const dz = static_cast<Element*>(part.dz);
  auto* const sums = static_cast<Scalar*>(part.column_sums);
  auto scale_sum = V::set1(0);
  const auto take = [&](int64_t i, int64_t j, auto... count) {
    const int64_t at = i * part.columns + j;
    const auto grad = V::load(grads + at, count...);
    auto sigmoid = V::set1(0);
    const auto product = V::mul(grad, slope(V::load(saveds + at, count...), &sigmoid));
    if (part.scale_sum) scale_sum = V::fma(grad, sigmoid, scale_sum);
    if (sums) V::store(sums + j, V::add(V::load(sums + j, count...), product), count...);
    if (dz) V::store(dz + at, product, count...);
  };
  for (int64_t begin = 0; begin < part.columns; begin += kBlock) {
    const int64_t end = begin + kBlock < part.columns ? begin + kBlock : part.columns;
    for (int64_t i = 0; i < part.rows; ++i) {
      int64_t j = begin;
      for (; j + V::width <= end; j += V::width) take(i, j);
      if (j < end) take(i, j, static_cast<int>(end - j));
    }
  }
  if (part.scale_sum) *part.scale_sum = sum_of_lanes<V>(scale_sum);
}

template <class V, class Element>
void backward(const BackwardPart& part) {
  using Reg = typename V::Reg;
  if (part.steps) {
    const SlopeFromY<V> from_y(part.scale, part.steps);
    backward_rows<V, Element>(part, [&](Reg y, Reg*) { return from_y(y); });
  } else {
    const FromZ<V> from_z{V::set1(1), V::set1(static_cast<typename V::Scalar>(part.scale))};
    backward_rows<V, Element>(part, from_z);
  }
}

template <class F32, class F64>
constexpr std::array<Backward, kDTypes> backwards() {
  return {backward<F32, Float16>, backward<F32, BFloat16>, backward<F32, float>,
          backward<F64, double>};
}

}  // namespace
}  // namespace fusedops::cpu
