# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""The products of two blocks, added to the accumulator."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def multiply_add(a, b, z, PRECISION: tl.constexpr):
    """Z + a @ b; float32 by three TF32 products where PRECISION is "tf32x3"."""
    if PRECISION == "tf32x3":
        z = tf32x3(a, b, z, a, b)
    elif PRECISION == "tf32x3 of parts":
        z = tf32x3(a, b, z, high_part(a), high_part(b))
    else:
        z = tl.dot(a, b, z, input_precision=PRECISION)
    return z


@triton.jit
def tf32x3(a, b, z, a_high, b_high):
    """Z + a @ b to float32's accuracy: a is a_high + a_low, and a_low @ b_low is below a roundoff.

    TF32 is float32 without its last 13 bits, which tensor cores do not read: there a and b are
    their own high parts. Where one is infinite the small products are NaN, and dropped: the large
    product has what is right. The block is summed apart, so truncation does not add up along K.
    """
    block = tl.dot(a - high_part(a), b_high, input_precision="tf32")
    block = tl.dot(a_high, b - high_part(b), block, input_precision="tf32")
    block = tl.where(block != block, 0.0, block)  # noqa: PLR0124 - NaN alone differs from itself
    return z + tl.dot(a_high, b_high, block, input_precision="tf32")


@triton.jit
def high_part(v):
    return (v.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
