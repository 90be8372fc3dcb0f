# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""What happens to the accumulator while it is still in registers."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid(z):
    """1 / (1 + exp(-z)): exp2 may reach infinity or zero, and both give the right limit."""
    return 1.0 / (1.0 + tl.exp2(z * -1.4426950408889634))


@triton.jit
def sigmoid_residual(z, scale):
    """Z + scale * sigmoid(z)."""
    return z + scale * sigmoid(z)


@triton.jit
def scalar(scale, ACCUMULATOR: tl.constexpr, IN_MEMORY: tl.constexpr):
    """The scale, in the accumulator's type: an argument's value, or what it points to."""
    # Triton 3.6 compiles what follows an early return: so one return, and branches.
    if IN_MEMORY:  # noqa: SIM108 - only one of them compiles
        value = tl.load(scale).to(ACCUMULATOR)
    else:
        value = tl.full((), scale, ACCUMULATOR)
    return value
