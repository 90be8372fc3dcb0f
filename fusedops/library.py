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
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_transforms = torch._C._are_functorch_transforms_active
_profiling = torch._C._autograd._profiler_enabled
_tracing = torch._C._is_tracing
_library = torch.library.Library(NAMESPACE, "DEF")


def only_computes(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    """Whether nothing below Autograd wants to see a call: no mode, transform, subclass or lazy
    negation, so that the dispatcher would do nothing but find the device's kernel."""
    return (
        type(x) in _PLAIN_TYPES
        and type(weight) in _PLAIN_TYPES
        and (bias is None or (type(bias) in _PLAIN_TYPES and not bias.is_neg()))
        and not (x.is_neg() or weight.is_neg())
        and not (_dispatch_modes() or _transforms())
    )


def is_plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    """Whether nothing at all wants to see a call, so that the operator's trip through PyTorch's
    dispatcher, which costs the host a quarter of a small call, would change nothing."""
    return (
        only_computes(x, weight, bias)
        and not (
            (x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad))
            and torch.is_grad_enabled()
        )
        and not (_function_modes() or _profiling() or _tracing())
        and forward_ad._current_level < 0
    )


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
        backend: str | None = None,
    ) -> torch.Tensor:
        if (
            x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
        ) and torch.is_grad_enabled():
            raise RuntimeError(
                "gemm_sig_res has no gradient yet: call it under torch.no_grad() or "
                "torch.inference_mode(), or detach its operands; "
                "fusedops.reference.gemm_sig_res is differentiable"
            )
        if forward_ad._current_level >= 0:
            raise RuntimeError("gemm_sig_res has no forward-mode derivative yet")
        # The device's kernel is next: calling it saves a second trip through the dispatcher.
        if only_computes(x, weight, bias):
            return compute(x, weight, bias, scale, backend)
        forced = () if backend is None else (backend,)
        with torch._C._AutoDispatchBelowAutograd():
            return overload(x, weight, bias, scale, *forced)

    return kernel


def _untraced(kernel: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Keep Dynamo from tracing into a kernel that runs where it is watching eager frames.

    As torch.compiler.disable does, but for nothing per call and without importing Dynamo. A torch
    without the means traces the kernel in vain, and is right all the same.
    """
    frames = torch._C._dynamo.eval_frame
    if hasattr(frames, "set_code_exec_strategy"):
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
