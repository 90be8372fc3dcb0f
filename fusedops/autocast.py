"""The operator under autocast: operands in the active dtype, whatever it is, as F.linear's are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

DEVICES = {"AutocastCPU": "cpu", "AutocastCUDA": "cuda"}


def kernel(key: str, overload: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The kernel of one Autocast key."""
    device = DEVICES[key]
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def casting(
        x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *others: Any
    ) -> torch.Tensor:
        dtype = torch.get_autocast_dtype(device)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return overload(_cast(x, dtype), _cast(weight, dtype), _bias(bias, dtype), *others)

    return casting


def _cast(operand: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    eligible = operand.is_floating_point() and operand.dtype != torch.float64
    return operand.to(dtype) if eligible else operand


def _bias(bias: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """A float32 bias is taken as it is, and added to the float32 sums."""
    return bias if bias is None or bias.dtype == torch.float32 else _cast(bias, dtype)
