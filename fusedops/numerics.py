"""The error bound every kernel obeys, and the fp64 oracle it is measured against.

docs/numerics.md derives it; nothing else in the project states it.
"""

from __future__ import annotations

import math

import torch

from fusedops import reference
from fusedops.registry import Accumulation

FP32_ROUNDOFF = 2.0**-24
FP64_ROUNDOFF = 2.0**-53
TF32_ROUNDOFF = 2.0**-11
TENSOR_CORE_CHAIN = 1 / 8

_EPILOGUE_ROUNDINGS = 4


def unit_roundoff(dtype: torch.dtype) -> float:
    """Half the distance from 1 to the next larger number."""
    return torch.finfo(dtype).eps / 2


def oracle(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """The op in fp64 on the same rounded inputs: (..., N), float64, on x's device."""
    wide_bias = None if bias is None else bias.double()
    return reference.gemm_sig_res(x.double(), weight.double(), wide_bias, scale)


def error_bound(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    accumulation: Accumulation,
    *,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """The largest error allowed for each element of y, (..., N), float64.

    ``dtype`` is the result's, x's unless said. With u the unit roundoff and (u_acc, t) the
    kernel's declared accumulation::

        u_out |y| + (1 + |s|/4) (4 sqrt(K + 2) + t K) u_acc (|x| @ |W|.T + |b|) + tiny

    where tiny is the roundings of the epilogue itself, 4 u_acc32 |s| sigmoid(z) (they do not shrink
    with the operands), and the smallest subnormal of the result's dtype.
    """
    dtype = x.dtype if dtype is None else dtype
    k = x.shape[-1]
    wide_bias = None if bias is None else bias.double()
    z = torch.nn.functional.linear(x.double(), weight.double(), wide_bias)
    sigmoid = torch.sigmoid(z)
    y = z + scale * sigmoid
    magnitude = torch.nn.functional.linear(
        x.double().abs(), weight.double().abs(), None if bias is None else wide_bias.abs()
    )
    growth = 4 * math.sqrt(k + 2) + accumulation.chain * k
    epilogue_roundoff = FP64_ROUNDOFF if dtype == torch.float64 else FP32_ROUNDOFF
    tiny = (
        _EPILOGUE_ROUNDINGS * epilogue_roundoff * abs(scale) * sigmoid
        + torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    )
    sensitivity = 1 + abs(scale) / 4
    return (
        unit_roundoff(dtype) * y.abs()
        + sensitivity * growth * accumulation.unit_roundoff * magnitude
        + tiny
    )


def error_over_bound(
    y: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    accumulation: Accumulation,
) -> torch.Tensor:
    """|y - y64| as a fraction of the bound, (..., N), float64: at most 1 for a correct kernel.

    Where the oracle is not finite, or overflows y's dtype, the fraction is 0 if y is the same
    special value and infinite if it is not. Within the bound of the overflow threshold, both the
    largest finite number and infinity are right.
    """
    expected = oracle(x, weight, bias, scale)
    bound = error_bound(x, weight, bias, scale, accumulation, dtype=y.dtype)
    largest = torch.finfo(y.dtype).max
    rounds_to_infinity = largest * (1 + unit_roundoff(y.dtype) / 2)
    got = y.double()
    fraction = (got - expected).abs() / bound
    reaches = expected.abs() + bound
    overflowed = got.isinf() & (got.sign() == expected.sign()) & (reaches >= rounds_to_infinity)
    fraction = torch.where(overflowed, 0.0, fraction)
    special = ~expected.isfinite()
    same = (got == expected) | (got.isnan() & expected.isnan())
    fraction = torch.where(special, torch.where(same, 0.0, math.inf), fraction)
    return torch.where(fraction.isnan(), math.inf, fraction)
