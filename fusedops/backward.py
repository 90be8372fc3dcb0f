"""From the gradient of y to those of z, the bias and the scale: describe, select, launch."""

from __future__ import annotations

import logging
import math

import torch

from fusedops import backends, settings
from fusedops.override import asked, peek_context, request
from fusedops.plans import alignment, device_facts, keep, kept, named, profiling
from fusedops.registry import BackwardProblem, Launch, Request, backward_problem, select
from fusedops.settings import BACKEND_KEY, KERNEL_KEY, peek

_log = logging.getLogger("fusedops")


def compute(
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
    """dz, dbias and dscale, each an empty tensor where it is not wanted.

    grad and saved: (..., N), one dtype; saved is y, or z where ``steps`` is 0. Any strides are
    accepted; what is not contiguous is copied.
    """
    grad, saved = grad.contiguous(), saved.contiguous()
    scale_dtype = None if device_scale is None else device_scale.dtype
    n = grad.shape[-1]
    m = math.prod(grad.shape[:-1])
    # Each its own, wanted or not: an operator's results must not share memory.
    dz = grad.new_empty(grad.shape if wants_dz else 0)
    dbias = grad.new_empty(0 if bias_dtype is None else n, dtype=bias_dtype)
    dscale = grad.new_empty(() if wants_dscale else 0, dtype=scale_dtype)
    if m == 0 or n == 0:
        return dz, dbias.zero_(), dscale.zero_()
    key = (
        "backward", m, n, grad.dtype, grad.device, alignment(grad, saved), steps, wants_dz,
        bias_dtype, wants_dscale, scale_dtype, peek_context() if backend is None else backend,
        peek(BACKEND_KEY), peek(KERNEL_KEY), profiling(),
    )  # fmt: skip
    launch = kept(key)
    if launch is None:
        wanted = request(*for_backward(asked(backend)))
        problem = backward_problem(
            m,
            n,
            grad.dtype,
            steps=steps,
            wants_dz=wants_dz,
            bias_dtype=bias_dtype,
            wants_dscale=wants_dscale,
            scale_dtype=scale_dtype,
            interpreted=settings.triton_interpreter(),
            alignment=alignment(grad, saved),
            **device_facts(grad.device),
        )
        capturing = grad.is_cuda and torch.cuda.is_current_stream_capturing()
        launch = prepare(problem, wanted, may_compile=not capturing)
        if not capturing:
            keep(key, launch)
    launch(
        matrix(grad),
        matrix(saved),
        scale if device_scale is None else device_scale,
        matrix(dz) if wants_dz else None,
        None if bias_dtype is None else dbias,
        dscale if wants_dscale else None,
    )
    return dz, dbias, dscale


def matrix(tensor: torch.Tensor) -> torch.Tensor:
    """(..., N) as (M, N)."""
    return tensor if tensor.dim() == 2 else tensor.view(-1, tensor.shape[-1])


def prepare(problem: BackwardProblem, wanted: Request, *, may_compile: bool) -> Launch:
    """Select a kernel for the problem and prepare its launch."""
    kernels, missing = backends.backward_kernels(), backends.missing()
    choice = select(problem, wanted, kernels, missing, may_compile=may_compile)
    if settings.LOG.read() == "dispatch":
        _log.warning("%s: %s", problem, choice)
    return named(choice.kernel, choice.kernel.prepare(problem, choice.config))


def for_backward(wanted: tuple[str, str, str]) -> tuple[str, str, str]:
    """What a request means for the gradient: a kernel of the forward pass, its backend."""
    backend, kernel, origin = wanted
    if kernel and kernel not in {each.name for each in backends.backward_kernels()}:
        family = {each.name: each.backend for each in backends.kernels()}
        return family.get(kernel, backend), "", origin
    return wanted
