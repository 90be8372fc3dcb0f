"""The C++ CPU kernels as Kernel values."""

from __future__ import annotations

import torch

from fusedops import native
from fusedops.numerics import FP32_ROUNDOFF, FP64_ROUNDOFF
from fusedops.registry import Accumulation, BackwardProblem, Kernel, Launch, Problem


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


def _prepare_backward(problem: Problem, config: None) -> Launch:
    assert isinstance(problem, BackwardProblem)
    reason = native.load(native.CPU_LIBRARY)
    if reason:
        raise RuntimeError(reason)
    run = torch.ops.fusedops_cpu.backward.default
    steps, sizes = problem.steps, (problem.m, problem.n)
    wide = torch.promote_types(problem.dtype, torch.float32)

    def launch(
        grad: torch.Tensor,
        saved: torch.Tensor,
        scale: float | torch.Tensor,
        dz: torch.Tensor | None,
        dbias: torch.Tensor | None,
        dscale: torch.Tensor | None,
    ) -> None:
        sums = None if dbias is None else dbias.to(wide)  # itself, if it is that wide
        scale_sum = None if dscale is None else torch.empty((), dtype=torch.float64)
        run(grad, saved, float(scale), steps, dz, sums, scale_sum, *sizes)
        if dbias is not None and sums is not None and sums is not dbias:
            dbias.copy_(sums)
        if dscale is not None and scale_sum is not None:
            dscale.copy_(scale_sum)

    return launch


BACKWARD = Kernel(
    name="cpu.backward",
    backend="cpu",
    accumulation=_accumulation,
    why_not=_why_not,
    configs=lambda problem: (None,),
    prepare=_prepare_backward,
    reads_scale=True,
)
