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
    larger, smaller = _sigmoids(tl.abs(z) * 1.4426950408889634, HARDWARE)
    return tl.where(z < 0, smaller, larger), 1.0 + scale * (larger * smaller)


@triton.jit
def slope_from_y(y, scale, STEPS: tl.constexpr, HARDWARE: tl.constexpr):
    """dy/dz in so many of Householder's third-order steps, the last of which moves the slope.

    Y = y - scale / 2 is z + scale / 2 * tanh(z / 2), odd in z, and the slope is even. A guess t of
    the tanh is one of z, and Newton's step corrects tanh(z / 2) - t: no infinities are subtracted.
    All but the last step may be rough. Y and z are held in units of ln 2.
    """
    LOG2E: tl.constexpr = 1.4426950408889634
    half = 0.5 * LOG2E * scale
    guess = 1.0 / (LOG2E * (2.0 + 0.5 * scale))
    two_over_scale = 2.0 / scale
    y = y * LOG2E - half
    t = _tanh(y * guess, HARDWARE)
    z = y - half * t
    for _ in tl.static_range(STEPS - 1):
        tanh = _tanh(z * (0.5 / LOG2E), HARDWARE)
        four_first = 1.0 - tanh * tanh
        reciprocal = _reciprocal(1.0 + 0.25 * scale * four_first, HARDWARE)
        newton = (tanh - t) * reciprocal
        t += newton * (1.0 - scale * scale / 16.0 * (four_first * tanh * reciprocal * newton))
        z = y - half * t
    sigmoid, _ = _sigmoids(tl.abs(z), HARDWARE)
    first = sigmoid - sigmoid * sigmoid
    tanh = 2.0 * sigmoid - 1.0
    reciprocal = _reciprocal(2.0 * first + two_over_scale, HARDWARE)
    newton = (tanh - tl.abs(t)) * reciprocal
    third_order = 0.5 - 3.0 * first - first * tanh * reciprocal * tanh
    return 1.0 + scale * (first * (1.0 + newton * (tanh + newton * third_order)))


@triton.jit
def _sigmoids(z, HARDWARE: tl.constexpr):
    """1 / (1 + 2^-z) and its complement, for z >= 0."""
    exponent = -z
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
