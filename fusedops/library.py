"""The torch.library side: definitions and every dispatch key's kernel, registered once at import.

Everything is registered before the first call can be traced: PyTorch keeps what it found then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

from fusedops import autocast, backward, flops, plans
from fusedops.autograd import differentiable
from fusedops.checks import check, check_out, check_scale_tensor
from fusedops.plans import compute
from fusedops.transforms import decomposed, vmap_rule

NAMESPACE = "fusedops"
OPERANDS = "Tensor x, Tensor weight, Tensor? bias"

_PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)
_grad_enabled = torch.is_grad_enabled
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_transforms = torch._C._are_functorch_transforms_active
_profiling = torch._C._autograd._profiler_enabled
_tracing = torch._C._is_tracing
_autocasting = torch._C._is_any_autocast_enabled
_library = torch.library.Library(NAMESPACE, "DEF")


def only_computes(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    """Whether nothing below Autograd wants to see a call: no mode, transform, subclass or lazy
    negation, so that the dispatcher would do nothing but find the device's kernel."""
    return (
        type(x) in _PLAIN_TYPES
        and type(weight) in _PLAIN_TYPES
        and (bias is None or (type(bias) in _PLAIN_TYPES and not bias.is_neg()))
        and not (x.is_neg() or weight.is_neg())
        and not (_dispatch_modes() or _transforms() or _profiling())
    )


def is_plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    """Whether nothing at all wants to see a call, so that the operator's trip through PyTorch's
    dispatcher, which costs the host a quarter of a small call, would change nothing."""
    return (
        only_computes(x, weight, bias)
        and not (
            (x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad))
            and _grad_enabled()
        )
        and not (_function_modes() or _tracing() or _autocasting())
        and forward_ad._current_level < 0
    )


def _is_plain(scale: float | torch.Tensor) -> bool:
    return isinstance(scale, torch.Tensor) and type(scale) in _PLAIN_TYPES and not scale.is_neg()


def _wants_grad(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    return x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)


def _fake(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float | torch.Tensor = 1.0,
    backend: str | None = None,
) -> torch.Tensor:
    if isinstance(scale, torch.Tensor):
        check_scale_tensor(scale, x)
    return x.new_empty(check(x, weight, bias))


def _fake_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    device_scale: torch.Tensor | None,
    writes_z: bool,
    backend: str | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    y = _fake(x, weight, bias, scale if device_scale is None else device_scale)
    return y, torch.empty_like(y) if writes_z else x.new_empty(0)


def _fake_backward(
    grad: torch.Tensor,
    saved: torch.Tensor,
    scale: float,
    device_scale: torch.Tensor | None,
    steps: int,
    wants_dz: bool,
    bias_dtype: torch.dtype | None,
    wants_dscale: bool,
    backend: str | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dtype = grad.dtype if device_scale is None else device_scale.dtype
    return (
        grad.new_empty(grad.shape if wants_dz else 0),
        grad.new_empty(0 if bias_dtype is None else grad.shape[-1], dtype=bias_dtype),
        grad.new_empty(() if wants_dscale else 0, dtype=dtype),
    )


def _fake_out(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float = 1.0,
    *,
    out: torch.Tensor,
) -> None:
    check_out(out, check(x, weight, bias), x)


def _compute_with_tensor(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: torch.Tensor,
    backend: str | None = None,
) -> torch.Tensor:
    check_scale_tensor(scale, x)
    return plans.compute_and_keep(x, weight, bias, scale, backend, writes_z=False)[0]


def _compute_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    device_scale: torch.Tensor | None,
    writes_z: bool,
    backend: str | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    if device_scale is not None:
        check_scale_tensor(device_scale, x)
    chosen = scale if device_scale is None else device_scale
    return plans.compute_and_keep(x, weight, bias, chosen, backend, writes_z=writes_z)


def _compute_out(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float = 1.0,
    *,
    out: torch.Tensor,
) -> None:
    check_out(out, check(x, weight, bias), x)
    if not out.is_inference():
        torch.autograd.graph.increment_version(out)
    in_place = out.is_contiguous() and out.data_ptr() % plans.ALIGNMENT == 0
    if in_place and not any(_overlap(out, each) for each in (x, weight, bias)):
        plans.compute_into(x, weight, bias, scale, out)
    else:
        out.copy_(compute(x, weight, bias, scale))


def _overlap(out: torch.Tensor, operand: torch.Tensor | None) -> bool:
    return (
        operand is not None
        and out.untyped_storage().data_ptr() == operand.untyped_storage().data_ptr()
    )


def _above_autograd(
    overload: Callable[..., torch.Tensor], below: Callable[..., torch.Tensor]
) -> Callable[..., torch.Tensor]:
    """The kernel of the Autograd key, which every eager call outside inference mode meets."""

    def kernel(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        scale: float | torch.Tensor = 1.0,
        backend: str | None = None,
    ) -> torch.Tensor:
        if _transforms() or forward_ad._current_level >= 0:
            return decomposed(x, weight, bias, scale, backend)
        if _grad_enabled() and (
            _wants_grad(x, weight, bias)
            or (isinstance(scale, torch.Tensor) and scale.requires_grad)
        ):
            return differentiable(x, weight, bias, scale, backend)
        # The device's kernel is next: calling it saves a second trip through the dispatcher.
        if (type(scale) is float or _is_plain(scale)) and only_computes(x, weight, bias):
            return below(x, weight, bias, scale, backend)
        forced = () if backend is None else (backend,)
        with torch._C._AutoDispatchBelowAutograd():
            return overload(x, weight, bias, scale, *forced)

    return kernel


def _out_above_autograd(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float = 1.0,
    *,
    out: torch.Tensor,
) -> None:
    """The kernel of the Autograd key for a result given by the caller, as torch's own are."""
    wants_grad = _wants_grad(x, weight, bias) or out.requires_grad
    if (wants_grad and torch.is_grad_enabled()) or any(
        each is not None and forward_ad.unpack_dual(each).tangent is not None
        for each in (x, weight, bias, out)
    ):
        raise RuntimeError("gemm_sig_res(): functions with out=... cannot be differentiated")
    with torch._C._AutoDispatchBelowAutograd():
        torch.ops.fusedops.gemm_sig_res.out(x, weight, bias, scale, out=out)


def _untraced(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Keep Dynamo from tracing into a kernel that runs where it is watching eager frames.

    As torch.compiler.disable does, but for nothing per call and without importing Dynamo. A torch
    without the means traces the kernel in vain, and is right all the same.
    """
    frames = torch._C._dynamo.eval_frame
    if hasattr(frames, "set_code_exec_strategy"):
        skip = frames._FrameAction.SKIP
        frames.set_code_exec_strategy(kernel.__code__, frames._FrameExecStrategy(skip, skip))
    return kernel


def _define(name: str, schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """An operator with the kernel of every device and of fake tensors."""
    _library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, _untraced(kernel), "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)
    packet, _, overload = name.partition(".")
    return getattr(getattr(getattr(torch.ops, NAMESPACE), packet), overload or "default")


def _define_public(name: str, schema: str, kernel: Callable[..., torch.Tensor]) -> Any:
    """One that can be differentiated, transformed and autocast, and has its FLOPs counted."""
    overload = _define(name, schema, kernel, _fake)
    _library.impl(name, _untraced(_above_autograd(overload, kernel)), "Autograd")
    for key in autocast.DEVICES:
        _library.impl(name, _untraced(autocast.kernel(key, overload)), key)
    torch.library.register_vmap(overload, vmap_rule(overload), lib=_library)
    return overload


def _without_trials(packet: Any) -> Any:
    """Go to the overload that fits the scale at once.

    PyTorch tries one after another: it pays as much as a small call for one that does not fit, and
    makes a number of a tensor, without its gradient, where the bias is left out.
    """
    name = packet._qualified_op_name
    tried, number, tensor = packet._op, packet.default._op, packet.tensor._op

    def call(*operands: Any, **named: Any) -> torch.Tensor:
        scale = operands[3] if len(operands) > 3 else named.get("scale")
        overload = number
        if "out" in named:
            overload = tried
        elif isinstance(scale, torch.Tensor):
            overload = tensor
            if len(operands) < 3:
                named.setdefault("bias", None)
        y: torch.Tensor = overload(*operands, **named)
        return y

    call.__name__, call.__module__ = name.partition("::")[2], tried.__module__
    torch.jit._builtins._register_builtin(call, name)
    packet._op = call
    return packet


# PyTorch takes the first overload that fits, and a tensor of one element fits a float, too.
_define_public("gemm_sig_res.tensor", f"({OPERANDS}, Tensor scale) -> Tensor", _compute_with_tensor)
_define_public("gemm_sig_res", f"({OPERANDS}=None, float scale=1.0) -> Tensor", compute)
_define_public(
    "gemm_sig_res_on.tensor",
    f"({OPERANDS}, Tensor scale, str backend) -> Tensor",
    _compute_with_tensor,
)
_define_public("gemm_sig_res_on", f"({OPERANDS}, float scale, str backend) -> Tensor", compute)
# With Tag.out and a result, Inductor would use it for every compiled call, and in PyTorch 2.13 fail
# where sizes are symbolic; with a result but no tag, no PyTorch could compile it.
_define(
    "gemm_sig_res.out",
    f"({OPERANDS}=None, float scale=1.0, *, Tensor(a!) out) -> ()",
    _compute_out,
    _fake_out,
)
_library.impl("gemm_sig_res.out", _untraced(_out_above_autograd), "Autograd")
_define(
    "gemm_sig_res_forward",
    f"({OPERANDS}, float scale, Tensor? device_scale, bool writes_z, str? backend)"
    " -> (Tensor y, Tensor z)",
    _compute_forward,
    _fake_forward,
)
_define(
    "gemm_sig_res_backward",
    "(Tensor grad, Tensor saved, float scale, Tensor? device_scale, int steps, bool wants_dz, "
    "ScalarType? bias_dtype, bool wants_dscale, str? backend)"
    " -> (Tensor dz, Tensor dbias, Tensor dscale)",
    backward.compute,
    _fake_backward,
)

gemm_sig_res = _without_trials(torch.ops.fusedops.gemm_sig_res)
gemm_sig_res_on = _without_trials(torch.ops.fusedops.gemm_sig_res_on)
flops.count([gemm_sig_res, gemm_sig_res_on, torch.ops.fusedops.gemm_sig_res_forward])
