"""The operator as a layer."""

from __future__ import annotations

import torch
from torch import nn

from fusedops.functional import gemm_sig_res
from fusedops.override import parse


class GemmSigRes(nn.Linear):
    """A linear layer followed by z + scale * sigmoid(z), in one kernel.

    x (..., in_features) -> (..., out_features). Parameters, names and initialisation are those of
    nn.Linear, so state dicts move between the two where ``scale`` is a number.

    ``scale`` may also be a tensor of one element, which moves with the layer and is in its state
    dict: an nn.Parameter is learned, any other is a buffer, to be filled with each value of a
    schedule, which recompiles nothing. It is 0-d, or of shape (1,) for those who take no 0-d
    parameter, as FSDP2.
    """

    scale: float | torch.Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        scale: float | torch.Tensor = 1.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)
        if backend is not None:
            parse(backend)
        self._set_scale(scale)
        self.backend = backend

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, scale: float | torch.Tensor, *, backend: str | None = None
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
        scale = self.scale
        if isinstance(scale, torch.Tensor):
            scale = scale.reshape(())
        return gemm_sig_res(input, self.weight, self.bias, scale, backend=self.backend)

    def extra_repr(self) -> str:
        scale = "a buffer"
        if isinstance(self.scale, nn.Parameter):
            scale = "learned"
        elif not isinstance(self.scale, torch.Tensor):
            scale = f"{self.scale:g}"
        chosen = "" if self.backend is None else f", backend={self.backend!r}"
        return f"{super().extra_repr()}, scale={scale}{chosen}"

    def _set_scale(self, scale: float | torch.Tensor) -> None:
        if not isinstance(scale, torch.Tensor):
            self.scale = float(scale)
        elif scale.numel() != 1 or scale.dim() > 1:
            raise ValueError(f"scale must have one element: its shape is {tuple(scale.shape)}")
        elif isinstance(scale, nn.Parameter):
            self.scale = scale
        else:
            self.register_buffer("scale", scale)
