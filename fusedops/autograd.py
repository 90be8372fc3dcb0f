"""The operator's gradient. x, weight and one (..., N) tensor are kept: y itself, or z instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from fusedops import reference
from fusedops.override import context_name
from fusedops.recovery import recovery_steps
from fusedops.sharding import is_sharded, whole

Gradients = tuple[torch.Tensor | None, ...]
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_compiling = torch.compiler.is_compiling
_transforms = torch._C._are_functorch_transforms_active


class _GemmSigRes(torch.autograd.Function):
    """Returns y, or y and z where the gradient needs z kept."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float | torch.Tensor,
        backend: str | None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        ops = torch.ops.fusedops
        device_scale = scale if isinstance(scale, torch.Tensor) else None
        steps = None if device_scale is not None else recovery_steps(float(scale), x.dtype)
        z = None
        with torch._C._AutoDispatchBelowAutograd():
            if steps is not None and backend is None:
                y = ops.gemm_sig_res.default(x, weight, bias, scale)
            elif steps is not None:
                y = ops.gemm_sig_res_on.default(x, weight, bias, scale, backend)
            else:
                number = 0.0 if device_scale is not None else scale
                y, z = ops.gemm_sig_res_forward.default(
                    x, weight, bias, number, device_scale, backend
                )
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        ctx.scale = None if device_scale is not None else scale
        ctx.steps = steps or 0
        ctx.backend = backend if backend is not None or _compiling() else context_name()
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            x if wants_weight else None,
            weight if wants_x else None,
            y if z is None else z,
            device_scale,
        )
        return y if z is None else (y, z)

    @staticmethod
    def backward(
        ctx: Any, grad: torch.Tensor | None, grad_z: torch.Tensor | None = None
    ) -> Gradients:
        x, weight, saved, device_scale = ctx.saved_tensors
        if grad is None and grad_z is None:
            return None, None, None, None, None
        wants_x, wants_weight, wants_bias, wants_scale = wanted = _wanted(ctx)
        if torch.is_grad_enabled() or grad_z is not None or _transforms():
            scale = ctx.scale if device_scale is None else device_scale
            dz, dbias, dscale = _in_plain_torch(ctx, grad, grad_z, saved, scale, wanted)
        else:
            dz, dbias, dscale = torch.ops.fusedops.gemm_sig_res_backward.default(
                grad,
                saved,
                0.0 if ctx.scale is None else ctx.scale,
                device_scale,
                ctx.steps,
                wants_x or wants_weight,
                ctx.bias_dtype if wants_bias else None,
                wants_scale,
                ctx.backend,
            )
        if dscale is not None and device_scale is not None:
            dscale = whole(dscale, device_scale)
        of_x, of_weight = _products(dz)
        dx = of_x(dz, weight) if wants_x else None
        dweight = of_weight(dz, x) if wants_weight else None
        return dx, dweight, dbias if wants_bias else None, dscale if wants_scale else None, None


def _products(dz: torch.Tensor) -> tuple[Product, Product]:
    """dz times weight, and dz's rows times x's: matmul's, which DTensor knows for matrices."""
    if dz.dim() > 2 and is_sharded(dz) and not torch.is_grad_enabled():
        ops = torch.ops.fusedops
        return ops.gemm_sig_res_dx.default, ops.gemm_sig_res_dweight.default
    return torch.matmul, lambda dz, x: _rows(dz).mT @ _rows(x)


def _wanted(ctx: Any) -> tuple[bool, ...]:
    """Which of the gradients of x, weight, bias and scale to compute.

    Of x and weight, which cost a product each, those that this backward pass will use. To ask
    for more would cost the host more than the other sums, which share dz's launch, cost the device.
    """
    wants_x, wants_weight, *sums = ctx.needs_input_grad[:4]
    nodes = iter([node for node, _ in ctx.next_functions if node is not None])
    wants_x = wants_x and _will_run(next(nodes))
    wants_weight = wants_weight and _will_run(next(nodes))
    return wants_x, wants_weight, *sums


def _will_run(node: torch.autograd.graph.Node) -> bool:
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # what it says of a leaf whose gradient torch.autograd.grad() returns
        return True


class _Recovered(torch.autograd.Function):
    """z from y, differentiable as often as wanted: dz/dy = 1 / (dy/dz)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: torch.Tensor, scale: float, steps: int) -> torch.Tensor:
        return reference.z_from_y(y, scale, steps)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[torch.Tensor, float, int], output: torch.Tensor
    ) -> None:
        ctx.scale = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        (z,) = ctx.saved_tensors
        return grad / reference.sigmoid_and_slope(z, ctx.scale)[1], None, None


def differentiable(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float | torch.Tensor,
    backend: str | None,
) -> torch.Tensor:
    """The operator, with its gradient recorded."""
    result = _GemmSigRes.apply(x, weight, bias, scale, backend)
    y: torch.Tensor = result[0] if isinstance(result, tuple) else result
    return y


def _in_plain_torch(
    ctx: Any,
    grad: torch.Tensor | None,
    grad_z: torch.Tensor | None,
    saved: torch.Tensor,
    scale: float | torch.Tensor,
    wanted: tuple[bool, ...],
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """What the backward operator computes, which can be differentiated again and transformed."""
    wide = torch.promote_types(saved.dtype, torch.float32)
    z = saved.to(wide)
    if ctx.steps:
        z = _Recovered.apply(z, scale, ctx.steps)
    wide_scale = scale.to(wide) if isinstance(scale, torch.Tensor) else scale
    sigmoid, slope = reference.sigmoid_and_slope(z, wide_scale)
    dz = torch.zeros_like(z) if grad is None else grad.to(wide) * slope
    if grad_z is not None:
        dz = dz + grad_z
    dbias = dscale = None
    if wanted[2]:
        dbias = _rows(dz).sum(0).to(ctx.bias_dtype)
    if wanted[3] and isinstance(scale, torch.Tensor) and grad is not None:
        dscale = (grad.to(wide) * sigmoid).sum().to(scale.dtype)
    return dz.to(saved.dtype), dbias, dscale


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dim() == 2:
        return tensor
    return tensor.reshape(math.prod(tensor.shape[:-1]), tensor.shape[-1])
