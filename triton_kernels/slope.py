# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""dy/dz of y = z + scale * sigmoid(z), where z is known and where only y is.

HARDWARE takes the card's approximations, an instruction each; without it the same formulas run in
any precision, and in Triton's interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid_and_slope(z, scale, HARDWARE: tl.constexpr):
    """sigmoid(z) and 1 + scale * sigmoid(z) * (1 - sigmoid(z)); exp sees no positive number."""
    larger, smaller = _sigmoids(tl.abs(z), HARDWARE)
    return tl.where(z < 0, smaller, larger), 1.0 + scale * (larger * smaller)


@triton.jit
def slope_from_y(y, scale, STEPS: tl.constexpr, HARDWARE: tl.constexpr):
    """dy/dz in so many of Householder's third-order steps, the last of which moves the slope.

    y - scale / 2 is z + scale / 2 * tanh(z / 2), odd in z, and the slope is even: it is found for
    z >= 0. What z is below y is kept apart, so that no infinities are subtracted. All but the last
    step may be rough.
    """
    half = 0.5 * scale
    y = tl.abs(y - half)
    below = half * _tanh(y / (2.0 + half), HARDWARE)
    z = y - below
    for _ in tl.static_range(STEPS - 1):
        tanh = _tanh(0.5 * z, HARDWARE)
        four_first = 1.0 - tanh * tanh
        reciprocal = _reciprocal(1.0 + 0.25 * scale * four_first, HARDWARE)
        newton = (half * tanh - below) * reciprocal
        bend = four_first * tanh * reciprocal * newton
        move = newton * (1.0 - 0.125 * scale * bend)
        z -= move
        below += move
    larger, smaller = _sigmoids(z, HARDWARE)
    first = larger * smaller
    tanh = 1.0 - 2.0 * smaller
    reciprocal = _reciprocal(1.0 + scale * first, HARDWARE)
    newton = (half * tanh - below) * reciprocal
    minus_second = first * tanh
    bend = minus_second * reciprocal * newton
    move = newton * (1.0 - half * bend)
    half_third = first * (0.5 - 3.0 * first)
    return 1.0 + scale * (first + move * (minus_second + move * half_third))


@triton.jit
def _sigmoids(z, HARDWARE: tl.constexpr):
    """sigmoid(z) and sigmoid(-z), for z >= 0."""
    exponent = z * -1.4426950408889634
    if HARDWARE:
        e = tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [exponent], tl.float32, is_pure=True, pack=1
        )
    else:
        e = tl.exp2(exponent)
    larger = _reciprocal(1.0 + e, HARDWARE)
    return larger, e * larger


@triton.jit
def _tanh(z, HARDWARE: tl.constexpr):
    if HARDWARE:
        result = tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [z], tl.float32, is_pure=True, pack=1
        )
    else:
        result = 1.0 - 2.0 / (1.0 + tl.exp2(z * 2.8853900817779268))
    return result


@triton.jit
def _reciprocal(value, HARDWARE: tl.constexpr):
    if HARDWARE:
        result = tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [value], tl.float32, is_pure=True, pack=1
        )
    else:
        result = 1.0 / value
    return result
