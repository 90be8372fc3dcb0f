"""The error bound every kernel obeys, and the fp64 oracle it is measured against.

docs/numerics.md derives it; nothing else in the project states it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fusedops import reference
from fusedops.registry import Accumulation

FP32_ROUNDOFF = 2.0**-24
FP64_ROUNDOFF = 2.0**-53
TF32_ROUNDOFF = 2.0**-11
TENSOR_CORE_CHAIN = 1 / 8

_EPILOGUE_ROUNDINGS = 8
_BISECTIONS = 64
_TENSOR_CORE_STEP = 16  # products added at once, and rounded once


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

    where tiny is the epilogue's own roundings, 8 u_acc32 |s| sigmoid(z) (they do not shrink with
    the operands), and the smallest subnormal of the result's dtype. A float64 result is compared
    with an oracle that rounds as it does, so there tiny counts both: 16 roundings of float64. Where
    sums may be subnormal (``Accumulation.spacing``), half a spacing for each 16 products comes on
    top, inside the same parentheses as the sum.
    """
    return expected_and_bound(x, weight, bias, scale, accumulation, dtype=dtype)[1]


def expected_and_bound(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    accumulation: Accumulation,
    *,
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``oracle`` and ``error_bound`` of the same operands, in one pass over them."""
    dtype = dtype or x.dtype
    k = x.shape[-1]
    x, weight = x.double(), weight.double()
    bias = None if bias is None else bias.double()
    z = F.linear(x, weight, bias)
    sigmoid = torch.sigmoid(z)
    expected = z + scale * sigmoid
    magnitude = F.linear(x.abs(), weight.abs(), None if bias is None else bias.abs())
    growth = 4 * math.sqrt(k + 2) + accumulation.chain * k
    underflow = math.ceil(k / _TENSOR_CORE_STEP) * accumulation.spacing / 2
    roundings = FP32_ROUNDOFF if dtype != torch.float64 else 2 * FP64_ROUNDOFF
    tiny = (
        _EPILOGUE_ROUNDINGS * roundings * abs(scale) * sigmoid
        + torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    )
    bound = (
        unit_roundoff(dtype) * expected.abs()
        + (1 + abs(scale) / 4) * (growth * accumulation.unit_roundoff * magnitude + underflow)
        + tiny
    )
    return expected, bound


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
    expected, bound = expected_and_bound(x, weight, bias, scale, accumulation, dtype=y.dtype)
    return fraction_of_bound(y, expected, bound)


def fraction_of_bound(y: torch.Tensor, expected: torch.Tensor, bound: torch.Tensor) -> torch.Tensor:
    """``error_over_bound`` for an oracle and a bound already computed."""
    largest = torch.finfo(y.dtype).max
    rounds_to_infinity = largest * (1 + unit_roundoff(y.dtype) / 2)
    got = y.double()
    fraction = (got - expected).abs() / bound
    reaches = expected.abs() + bound
    overflowed = got.isinf() & (got.sign() == expected.sign()) & (reaches >= rounds_to_infinity)
    fraction = torch.where(overflowed, 0.0, fraction)
    same = (got == expected) | (got.isnan() & expected.isnan())
    special = torch.where(same, 0.0, math.inf)
    fraction = torch.where(expected.isfinite(), fraction, special)
    return torch.where(fraction.isnan(), math.inf, fraction)


@dataclass(frozen=True)
class Gradients:
    """What the backward operator computes, or the largest errors allowed for it, in float64.

    ``dz`` has grad's shape, ``dbias`` that of its last dimension, ``dscale`` none.
    """

    dz: torch.Tensor
    dbias: torch.Tensor
    dscale: torch.Tensor


def oracle_z(y: torch.Tensor, scale: float) -> torch.Tensor:
    """The z of which y = z + scale * sigmoid(z), for a scale above -4: float64.

    Newton's iteration inside a bracket that every value of y halves or better; none of it is shared
    with what it checks. Beyond 10^4 sigmoid is 0 or 1 to the last bit, and so is all that follows.
    """
    y = y.double()
    near = y.clamp(-1e4, 1e4)
    low, high = near - max(scale, 0.0), near - min(scale, 0.0)
    z = (low + high) / 2
    for _ in range(_BISECTIONS):
        sigmoid = torch.sigmoid(z)
        residual = z + scale * sigmoid - near
        low, high = torch.where(residual < 0, z, low), torch.where(residual > 0, z, high)
        newton = z - residual / (1 + scale * sigmoid * torch.sigmoid(-z))
        z = torch.where((newton > low) & (newton < high), newton, (low + high) / 2)
    return torch.where(y.abs() > 1e4, y, z)


def expected_and_bound_of_gradients(
    grad: torch.Tensor,
    saved: torch.Tensor,
    scale: float,
    accumulation: Accumulation,
    *,
    from_y: bool,
    bias_dtype: torch.dtype | None = None,
    scale_dtype: torch.dtype | None = None,
) -> tuple[Gradients, Gradients]:
    """The oracle of the backward operator, and the largest error allowed for each number.

    ``saved`` is y, or z where not ``from_y``; the dtypes are the results', grad's unless said. With
    slope = dy/dz, u the accumulation's roundoff and sums over rows, or for dscale over all::

        dz:      u_out |dz| + e,  e = 8 u |grad| (1 + |s|/4 + |s sigmoid''(z)| / slope (|y| + |s|))
        dbias:   u_out |dbias|  + 4 sqrt(M + 2) u sum |dz| + sum e
        dscale:  u_out |dscale| + 4 sqrt(MN + 2) u sum |grad sigmoid(z)| + 8 u sum |grad sigmoid(z)|

    and the smallest subnormal of the result's dtype; the last part of e where z is to be found from
    y. In float64, where the oracle rounds as well, u counts twice.
    """
    dtype = grad.dtype
    roundings = accumulation.unit_roundoff * (2 if dtype == torch.float64 else 1)
    n = grad.shape[-1]
    grad, saved = grad.double(), saved.double()
    z = oracle_z(saved, scale) if from_y else saved
    sigmoid, complement = torch.sigmoid(z), torch.sigmoid(-z)
    first = sigmoid * complement
    slope = 1 + scale * first
    dz = grad * slope
    units = torch.full_like(z, 1 + abs(scale) / 4)
    if from_y:
        bend = abs(scale) * first * (complement - sigmoid).abs() / slope
        units += torch.where(bend > 0, bend * (saved.abs() + abs(scale)), 0.0)
    errors = _EPILOGUE_ROUNDINGS * roundings * grad.abs() * units
    weighted = grad * sigmoid

    def bound(dtype: torch.dtype, value: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        info = torch.finfo(dtype)
        return unit_roundoff(dtype) * value.abs() + error + info.smallest_normal * info.eps

    def noise(terms: int) -> float:
        return 4 * math.sqrt(terms + 2) * roundings

    dz_rows, error_rows = dz.reshape(-1, n), errors.reshape(-1, n)
    dbias, dscale = dz_rows.sum(0), weighted.sum()
    magnitude = weighted.abs().sum()
    bias_error = noise(len(dz_rows)) * dz_rows.abs().sum(0) + error_rows.sum(0)
    scale_error = (noise(grad.numel()) + _EPILOGUE_ROUNDINGS * roundings) * magnitude
    bounds = Gradients(
        bound(dtype, dz, errors),
        bound(bias_dtype or dtype, dbias, bias_error),
        bound(scale_dtype or dtype, dscale, scale_error),
    )
    return Gradients(dz, dbias, dscale), bounds
