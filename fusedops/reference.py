"""The contract in five lines of torch: the reference backend, and the documentation."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def gemm_sig_res(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """y = z + scale * sigmoid(z), z = x @ weight.T + bias, in at least fp32, rounded once."""
    wide = torch.promote_types(x.dtype, torch.float32)
    bias = None if bias is None else bias.to(wide)
    z = F.linear(x.to(wide), weight.to(wide), bias)
    y = z + scale * torch.sigmoid(z)
    return y.to(x.dtype)
