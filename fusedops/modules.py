"""The operator as a layer."""

from __future__ import annotations

import torch
from torch import nn

from fusedops.functional import gemm_sig_res
from fusedops.override import parse


class GemmSigRes(nn.Linear):
    """A linear layer followed by z + scale * sigmoid(z), in one kernel.

    x (..., in_features) -> (..., out_features). Parameters, names and initialisation are those of
    nn.Linear, so state dicts move between the two; ``scale`` is a plain number.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        scale: float = 1.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)
        if backend is not None:
            parse(backend)
        self.scale = float(scale)
        self.backend = backend

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, scale: float, *, backend: str | None = None
    ) -> GemmSigRes:
        """A layer that shares ``linear``'s parameters (the same tensors, not copies)."""
        layer = cls(
            linear.in_features,
            linear.out_features,
            scale,
            bias=linear.bias is not None,
            device="meta",
            dtype=linear.weight.dtype,
            backend=backend,
        )
        layer.weight, layer.bias = linear.weight, linear.bias
        return layer.train(linear.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return gemm_sig_res(input, self.weight, self.bias, self.scale, backend=self.backend)

    def extra_repr(self) -> str:
        chosen = "" if self.backend is None else f", backend={self.backend!r}"
        return f"{super().extra_repr()}, scale={self.scale:g}{chosen}"
