"""The C++ CPU kernel as a Kernel value."""

from __future__ import annotations

import torch

from fusedops import native
from fusedops.numerics import FP32_ROUNDOFF, FP64_ROUNDOFF
from fusedops.registry import Accumulation, Kernel, Launch, Problem


def _accumulation(problem: Problem) -> Accumulation:
    return Accumulation(FP64_ROUNDOFF if problem.dtype == torch.float64 else FP32_ROUNDOFF)


def _why_not(problem: Problem) -> tuple[str, ...]:
    if problem.device != "cpu":
        return (f"it runs on CPU tensors; these are on {problem.device}",)
    return ()


def _prepare(problem: Problem, config: None) -> Launch:
    reason = native.load(native.CPU_LIBRARY)
    if reason:
        raise RuntimeError(reason)
    run = torch.ops.fusedops_cpu.launch.default
    sizes = (problem.m, problem.n, problem.k, *problem.x_strides, problem.batch_invariant)

    def launch(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float | torch.Tensor,
        out: torch.Tensor,
        z: torch.Tensor | None = None,
    ) -> None:
        run(x, weight, bias, float(scale), out, z, *sizes)

    return launch


KERNELS = (
    Kernel(
        name="cpu.blocked",
        backend="cpu",
        accumulation=_accumulation,
        why_not=_why_not,
        configs=lambda problem: (None,),
        prepare=_prepare,
        summation=lambda problem, config: "packed" if problem.batch_invariant else None,
        writes_z=True,
        reads_scale=True,
    ),
)
