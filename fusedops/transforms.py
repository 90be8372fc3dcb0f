"""The operator under torch.func and forward-mode AD: plain torch, or one larger call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fusedops import autocast, reference
from fusedops.checks import check, check_scale_tensor
from fusedops.override import asked, request
from fusedops.registry import NoKernelError

Dims = tuple[int | None, ...]


def decomposed(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float | torch.Tensor,
    backend: str | None,
) -> torch.Tensor:
    """The contract in torch's own operators, which every transform knows how to treat."""
    check(x, weight, bias)
    if isinstance(scale, torch.Tensor):
        check_scale_tensor(scale, x)
    _allow_plain_torch(backend)
    return reference.gemm_sig_res(x, weight, bias, scale)


def vmap_rule(overload: Callable[..., torch.Tensor]) -> Callable[..., tuple[torch.Tensor, int]]:
    """Rows of a batched x are rows of one larger call; anything else batched is plain torch."""

    def rule(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        scale: float | torch.Tensor = 1.0,
        backend: str | None = None,
    ) -> tuple[torch.Tensor, int]:
        dims = (*in_dims, None, None)[:4]
        x, weight, bias, scale = _each(
            lambda each, dim: each.movedim(dim, 0), dims, x, weight, bias, scale
        )
        _check_each(dims, x, weight, bias, scale)
        if dims[0] is not None and dims[1:] == (None, None, None):
            return overload(x, weight, bias, scale, *(() if backend is None else (backend,))), 0
        _allow_plain_torch(backend)
        return _batched(dims, info.batch_size, x, weight, bias, scale), 0

    return rule


def _check_each(dims: Dims, *operands: Any) -> None:
    """What ``check`` says of a call of the batch, whose operands have the batch's dimension first.

    An empty batch has no call.
    """
    if all(dim is None or each.shape[0] for each, dim in zip(operands, dims, strict=True)):
        x, weight, bias, scale = _each(lambda each, dim: each[0], dims, *operands)
        check(x, weight, bias)
        if isinstance(scale, torch.Tensor):
            check_scale_tensor(scale, x)


def _each(change: Callable[[Any, int], Any], dims: Dims, *operands: Any) -> tuple[Any, ...]:
    """The operands, those of the batch changed."""
    return tuple(
        each if dim is None else change(each, dim) for each, dim in zip(operands, dims, strict=True)
    )


def _batched(
    dims: Dims,
    batch: int,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float | torch.Tensor,
) -> torch.Tensor:
    """All calls of the batch, as matrices with a leading dimension."""
    device = x.device.type
    autocasting = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if autocasting:
        x, weight, bias = autocast.cast(device, x, weight, bias)
    dtype = x.dtype
    if autocasting:
        x, weight, bias = autocast.out_of_reach(x, weight, bias)
    x = x if dims[0] is not None else x.unsqueeze(0)
    leading = x.shape[1:-1]
    x = x.unsqueeze(1) if x.dim() == 2 else x.flatten(1, -2)
    weight = weight if dims[1] is not None else weight.unsqueeze(0)
    if bias is not None:
        bias = bias.unsqueeze(1) if dims[2] is not None else bias
    if isinstance(scale, torch.Tensor):
        scale = scale.reshape(-1, 1, 1)
    y = reference.gemm_sig_res(x, weight, bias, scale).to(dtype)
    return y.expand(batch, -1, -1).reshape(batch, *leading, y.shape[-1])


def _allow_plain_torch(backend: str | None) -> None:
    wanted = request(*asked(backend))
    if wanted.forced and wanted.backend != "reference":
        raise NoKernelError(
            f"no kernel can serve {wanted} here: under torch.func's derivatives, a vmap over more "
            "than x and forward-mode AD the operator is plain torch, backend 'reference'. Remedy: "
            "ask for 'auto'."
        )
