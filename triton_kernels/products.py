# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""The products of two blocks, added to the accumulator."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def multiply_add(a, b, z, PRECISION: tl.constexpr):
    """Z + a @ b; "tf32x3" is float32 by three TF32 products, "tf32x3 explicit" where they round."""
    if PRECISION == "tf32x3":
        return tf32x3(a, b, z, a, b)
    elif PRECISION == "tf32x3 builtin":
        return tl.dot(a, b, z, input_precision="tf32x3")
    elif PRECISION == "tf32x3 explicit":
        return tf32x3(a, b, z, high_part(a), high_part(b))
    else:
        return tl.dot(a, b, z, input_precision=PRECISION)


@triton.jit
def tf32x3(a, b, z, a_high, b_high):
    """a = a_high + a_low exactly, and what a_low @ b_low would add is below float32's roundoff.

    Tensor cores read the high parts of a and b themselves: TF32 is float32 without its last 13
    bits, which they ignore. The small products are summed first, and NaN of them, which infinities
    leave there, dropped: the large product has the infinity, or the NaN, that is right.
    """
    z_block = tl.dot(a - high_part(a), b_high, input_precision="tf32")
    z_block = tl.dot(a_high, b - high_part(b), z_block, input_precision="tf32")
    z_block = tl.where(z_block == z_block, z_block, 0.0)
    return z + tl.dot(a_high, b_high, z_block, input_precision="tf32")


@triton.jit
def high_part(v):
    return (v.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
