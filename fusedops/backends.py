"""Every kernel the package declares, and what this machine lacks to run them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType

import torch

from fusedops import native, reference
from fusedops.cpu_backend import BACKWARD as CPU_BACKWARD
from fusedops.cpu_backend import KERNELS as CPU_KERNELS
from fusedops.cuda_backend import cuda_backward_kernels, cuda_kernels
from fusedops.numerics import FP32_ROUNDOFF, FP64_ROUNDOFF, TENSOR_CORE_CHAIN, TF32_ROUNDOFF
from fusedops.registry import Accumulation, BackwardProblem, Kernel, Launch, Problem
from fusedops.triton_kernels import BACKWARD as TRITON_BACKWARD
from fusedops.triton_kernels import KERNELS as TRITON_KERNELS


@cache
def kernels() -> tuple[Kernel, ...]:
    """Every kernel: the compiled ones the catalogue lists, Triton's, the CPU's, the reference."""
    return (*cuda_kernels(), *TRITON_KERNELS, *CPU_KERNELS, REFERENCE)


@cache
def backward_kernels() -> tuple[Kernel, ...]:
    """Every kernel of the gradient with respect to z."""
    return (*cuda_backward_kernels(), TRITON_BACKWARD, CPU_BACKWARD, REFERENCE_BACKWARD)


@cache
def missing() -> Mapping[str, str]:
    """What each backend lacks on this machine, in words; a backend not named lacks nothing."""
    reasons = {
        "cuda": native.why_no_cuda(),
        "triton": None if find_spec("triton") else "Triton is not installed: pip install triton",
        "cpu": native.why_no_cpu(),
    }
    return MappingProxyType({name: why for name, why in reasons.items() if why})


def _reference_accumulation(problem: Problem) -> Accumulation:
    if problem.dtype == torch.float64:
        return Accumulation(FP64_ROUNDOFF)
    if problem.dtype == torch.float32 and problem.fp32_precision == "tf32":
        return Accumulation(TF32_ROUNDOFF)
    chain = TENSOR_CORE_CHAIN if problem.fp32_precision == "tf32" else 0.0
    return Accumulation(FP32_ROUNDOFF, chain)


def _prepare_reference(problem: Problem, config: None) -> Launch:
    def launch(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float | torch.Tensor,
        out: torch.Tensor,
        z_out: torch.Tensor | None = None,
    ) -> None:
        y, z = reference.with_z(x, weight, bias, scale)
        out.copy_(y)
        if z_out is not None:
            z_out.copy_(z)

    return launch


REFERENCE = Kernel(
    name="torch.reference",
    backend="reference",
    accumulation=_reference_accumulation,
    why_not=lambda problem: (),
    configs=lambda problem: (None,),
    prepare=_prepare_reference,
    writes_z=True,
    reads_scale=True,
)


def _prepare_reference_backward(problem: Problem, config: None) -> Launch:
    assert isinstance(problem, BackwardProblem)

    def launch(
        grad: torch.Tensor,
        saved: torch.Tensor,
        scale: float | torch.Tensor,
        dz_out: torch.Tensor | None,
        dbias: torch.Tensor | None,
        dscale: torch.Tensor | None,
    ) -> None:
        dz, sigmoid = reference.backward(grad, saved, scale, problem.steps)
        if dz_out is not None:
            dz_out.copy_(dz)
        if dbias is not None:
            dbias.copy_(dz.sum(0))
        if dscale is not None:
            assert sigmoid is not None
            dscale.copy_((grad.to(sigmoid.dtype) * sigmoid).sum())

    return launch


REFERENCE_BACKWARD = Kernel(
    name="torch.reference_backward",
    backend="reference",
    accumulation=_reference_accumulation,
    why_not=lambda problem: (),
    configs=lambda problem: (None,),
    prepare=_prepare_reference_backward,
    reads_scale=True,
)
