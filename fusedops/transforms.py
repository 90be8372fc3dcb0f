"""The operator under torch.func and forward-mode AD: plain torch, or one larger call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fusedops import reference
from fusedops.override import asked, request
from fusedops.registry import NoKernelError


def decomposed(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float | torch.Tensor,
    backend: str | None,
) -> torch.Tensor:
    """The contract in torch's own operators, which every transform knows how to treat."""
    _allow_plain_torch(backend)
    return reference.gemm_sig_res(x, weight, bias, scale)


def vmap_rule(overload: Callable[..., torch.Tensor]) -> Callable[..., tuple[torch.Tensor, int]]:
    """Rows of a batched x are rows of one larger call; anything else batched is plain torch."""

    def rule(
        info: Any, in_dims: tuple[int | None, ...], x: torch.Tensor, *others: Any
    ) -> tuple[torch.Tensor, int]:
        if in_dims[0] is not None and not any(dim is not None for dim in in_dims[1:]):
            return overload(x.movedim(in_dims[0], 0), *others), 0
        weight, bias, scale, *backend = (*others, *(None, 1.0)[len(others) - 1 :])
        _allow_plain_torch(*(backend or (None,)))
        dims = (*in_dims, None, None)
        matrices = [_batch_first(each, dim) for each, dim in zip((x, weight), dims, strict=False)]
        leading = matrices[0].shape[1:-1]
        rows = matrices[0].reshape(matrices[0].shape[0], -1, matrices[0].shape[-1])
        if bias is not None:
            bias = _batch_first(bias, dims[2]).unsqueeze(1)
        if isinstance(scale, torch.Tensor):
            scale = _batch_first(scale, dims[3]).reshape(-1, 1, 1)
        y = reference.gemm_sig_res(rows, matrices[1], bias, scale)
        return y.reshape(-1, *leading, y.shape[-1]), 0

    return rule


def _batch_first(operand: torch.Tensor, dim: int | None) -> torch.Tensor:
    return operand.unsqueeze(0) if dim is None else operand.movedim(dim, 0)


def _allow_plain_torch(backend: str | None) -> None:
    wanted = request(*asked(backend))
    if wanted.forced and wanted.backend != "reference":
        raise NoKernelError(
            f"no kernel can serve {wanted} here: under torch.func's derivatives, a vmap over more "
            "than x and forward-mode AD the operator is plain torch, backend 'reference'. Remedy: "
            "ask for 'auto'."
        )
