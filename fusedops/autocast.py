"""The operator under autocast: operands in the active dtype, whatever it is, as F.linear's are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fusedops.checks import check

Operands = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]

_transforms = torch._C._are_functorch_transforms_active

DEVICES = {"AutocastCPU": "cpu", "AutocastCUDA": "cuda"}


def kernel(key: str, overload: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The kernel of one Autocast key."""
    device = DEVICES[key]
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def casting(
        x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *others: Any
    ) -> torch.Tensor:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            x, weight, bias = cast(device, x, weight, bias)
            if _transforms():
                check(x, weight, bias)
                return overload(*out_of_reach(x, weight, bias), *others).to(x.dtype)
            return overload(x, weight, bias, *others)

    return casting


def cast(device: str, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Operands:
    """The operands in autocast's dtype; a float32 bias is added to the float32 sums as it is."""
    dtype = torch.get_autocast_dtype(device)
    if bias is not None and bias.dtype != torch.float32:
        bias = _cast(bias, dtype)
    return _cast(x, dtype), _cast(weight, dtype), bias


def out_of_reach(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Operands:
    """The operands in float64, which autocast leaves alone.

    It cannot be switched off for plain torch under a transform of torch.func: each of a transform's
    layers restores the state it began with, and float32 products would be rounded to autocast's
    dtype.
    """
    return x.double(), weight.double(), None if bias is None else bias.double()


def _cast(operand: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    eligible = operand.is_floating_point() and operand.dtype != torch.float64
    return operand.to(dtype) if eligible else operand
