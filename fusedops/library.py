"""The torch.library side: definition, kernels and fake kernels, registered once at import.

Everything is registered before the first call can be traced: PyTorch keeps what it found then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

from fusedops.checks import check
from fusedops.plans import compute

NAMESPACE = "fusedops"
SCHEMA = "(Tensor x, Tensor weight, Tensor? bias=None, float scale=1.0) -> Tensor"
FORCED_SCHEMA = "(Tensor x, Tensor weight, Tensor? bias, float scale, str backend) -> Tensor"

_PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)
_library = torch.library.Library(NAMESPACE, "DEF")


def _fake(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float = 1.0,
    backend: str | None = None,
) -> torch.Tensor:
    return x.new_empty(check(x, weight, bias))


def _above_autograd(overload: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The kernel of the Autograd key, which every eager call outside inference mode meets."""

    def kernel(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        scale: float = 1.0,
        *backend: Any,
    ) -> torch.Tensor:
        if torch.is_grad_enabled() and (
            x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
        ):
            raise RuntimeError(
                "gemm_sig_res has no gradient yet: call it under torch.no_grad() or "
                "torch.inference_mode(), or detach its operands; "
                "fusedops.reference.gemm_sig_res is differentiable"
            )
        if forward_ad._current_level >= 0:
            raise RuntimeError("gemm_sig_res has no forward-mode derivative yet")
        if _nothing_watches() and _is_plain(x) and _is_plain(weight) and _is_plain(bias):
            return compute(x, weight, bias, scale, *backend)
        with torch._C._AutoDispatchBelowAutograd():
            return overload(x, weight, bias, scale, *backend)

    return kernel


def _nothing_watches() -> bool:
    """Whether no mode and no transform wants to see the call below Autograd.

    Calling the device's kernel directly then saves a second round trip through the dispatcher.
    """
    return (
        torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
    )


def _is_plain(tensor: torch.Tensor | None) -> bool:
    """Whether nothing but the device's kernel is left to run for this operand."""
    return tensor is None or (
        type(tensor) in _PLAIN_TYPES and not tensor.is_meta and not tensor.is_neg()
    )


def _untraced(kernel: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Keep Dynamo from tracing into a kernel that runs where it is watching eager frames.

    As torch.compiler.disable does, but for nothing per call and without importing Dynamo.
    """
    frames = torch._C._dynamo.eval_frame
    skip = frames._FrameAction.SKIP
    frames.set_code_exec_strategy(kernel.__code__, frames._FrameExecStrategy(skip, skip))
    return kernel


def _register(name: str, schema: str) -> Any:
    _library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    packet = getattr(getattr(torch.ops, NAMESPACE), name)
    _library.impl(name, _untraced(compute), "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", _fake, lib=_library)
    _library.impl(name, _untraced(_above_autograd(packet.default)), "Autograd")
    return packet


gemm_sig_res = _register("gemm_sig_res", SCHEMA)
gemm_sig_res_on = _register("gemm_sig_res_on", FORCED_SCHEMA)
