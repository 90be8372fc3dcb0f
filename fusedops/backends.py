"""Every kernel the package declares, and what this machine lacks to run them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType

import torch

from fusedops import native, reference
from fusedops.cpu_backend import KERNELS as CPU_KERNELS
from fusedops.cuda_backend import cuda_kernels
from fusedops.numerics import FP32_ROUNDOFF, FP64_ROUNDOFF, TENSOR_CORE_CHAIN, TF32_ROUNDOFF
from fusedops.registry import Accumulation, Kernel, Launch, Problem
from fusedops.triton_kernels import KERNELS as TRITON_KERNELS


@cache
def kernels() -> tuple[Kernel, ...]:
    """Every kernel: the compiled ones the catalogue lists, Triton's, the CPU's, the reference."""
    return (*cuda_kernels(), *TRITON_KERNELS, *CPU_KERNELS, REFERENCE)


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
        scale: float,
        out: torch.Tensor,
    ) -> None:
        out.copy_(reference.gemm_sig_res(x, weight, bias, scale))

    return launch


REFERENCE = Kernel(
    name="torch.reference",
    backend="reference",
    accumulation=_reference_accumulation,
    why_not=lambda problem: (),
    configs=lambda problem: (None,),
    prepare=_prepare_reference,
)
