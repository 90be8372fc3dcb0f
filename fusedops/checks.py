"""What the operator accepts: one statement, for real, fake and compiled calls alike."""

from __future__ import annotations

import torch

from fusedops.registry import dtype_name

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_types(x: object, weight: object, bias: object, scale: object) -> None:
    """Raise TypeError where an argument is not a tensor, or scale neither that nor a number."""
    operands = {"x": x, "weight": weight, "bias": bias}
    for name, value in operands.items():
        if not (isinstance(value, torch.Tensor) or (name == "bias" and value is None)):
            given = ", ".join(f"{key} is {type(each).__name__}" for key, each in operands.items())
            raise TypeError(f"gemm_sig_res takes tensors: {given}")
    if not isinstance(scale, (int, float, torch.SymFloat, torch.SymInt, torch.Tensor)):
        raise TypeError(f"scale must be a number or a tensor, not {type(scale).__name__}")


def check(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> tuple[int, ...]:
    """Raise TypeError or ValueError for operands that do not fit; return the result's shape."""
    if x.dtype not in DTYPES or weight.dtype != x.dtype:
        known = ", ".join(dtype_name(dtype) for dtype in DTYPES)
        raise TypeError(f"x and weight must share one dtype of {known}: {_dtypes(x, weight, bias)}")
    if any(t is not None and (t.layout != torch.strided or t.is_nested) for t in (x, weight, bias)):
        raise TypeError(f"x, weight and bias must be dense: {_layouts(x, weight, bias)}")
    if bias is not None and bias.dtype not in (weight.dtype, torch.float32):
        raise TypeError(f"bias must have weight's dtype or float32: {_dtypes(x, weight, bias)}")
    if x.dim() < 1 or weight.dim() != 2:
        raise ValueError(f"x must be (..., K) and weight (N, K): {_shapes(x, weight, bias)}")
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"x's last dimension must equal weight's second: {_shapes(x, weight, bias)}"
        )
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != weight.shape[0]):
        raise ValueError(f"bias must be (N,): {_shapes(x, weight, bias)}")
    if x.device != weight.device or (bias is not None and bias.device != x.device):
        devices = f"x is on {x.device}, weight on {weight.device}"
        if bias is not None:
            devices += f", bias on {bias.device}"
        raise ValueError(f"all operands must be on one device: {devices}")
    return (*x.shape[:-1], weight.shape[0])


def check_scale_tensor(scale: torch.Tensor, x: torch.Tensor) -> None:
    """Raise TypeError or ValueError for a tensor that cannot be x's scale."""
    if scale.dtype not in DTYPES:
        known = ", ".join(dtype_name(dtype) for dtype in DTYPES)
        raise TypeError(f"scale must have one of the dtypes {known}, not {dtype_name(scale.dtype)}")
    if scale.dim() != 0:
        raise ValueError(f"scale must be a number or a 0-d tensor: it is {tuple(scale.shape)}")
    if scale.device != x.device:
        raise ValueError(f"scale must be on x's device, {x.device}: it is on {scale.device}")


def check_out(out: torch.Tensor, shape: tuple[int, ...], x: torch.Tensor) -> None:
    """Raise TypeError or ValueError for a tensor that cannot take the result."""
    if out.dtype != x.dtype:
        given = dtype_name(out.dtype)
        raise TypeError(f"out must have x's dtype, {dtype_name(x.dtype)}: it is {given}")
    if tuple(out.shape) != tuple(shape):
        raise ValueError(f"out must be {tuple(shape)}: it is {tuple(out.shape)}")
    if out.device != x.device:
        raise ValueError(f"out must be on x's device, {x.device}: it is on {out.device}")


def _layouts(*operands: torch.Tensor | None) -> str:
    return ", ".join(
        f"{name} is {'nested' if each.is_nested else each.layout}"
        for name, each in zip(("x", "weight", "bias"), operands, strict=True)
        if each is not None
    )


def _dtypes(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> str:
    text = f"x is {dtype_name(x.dtype)}, weight is {dtype_name(weight.dtype)}"
    return text if bias is None else f"{text}, bias is {dtype_name(bias.dtype)}"


def _shapes(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> str:
    text = f"x is {tuple(x.shape)}, weight is {tuple(weight.shape)}"
    return text if bias is None else f"{text}, bias is {tuple(bias.shape)}"
