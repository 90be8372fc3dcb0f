"""The order in which kernels are tried: the measured one first, then these preferences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .kernel import Kernel
from .problem import Problem
from .table import Measurement

ON_CUDA = (
    "cuda.sm90_cooperative",
    "cuda.sm90_pingpong",
    "triton.persistent_tma",
    "cuda.sm80_multistage",
    "triton.tiled",
    "torch.reference",
)
ON_CPU = ("cpu.blocked", "torch.reference", "triton.tiled", "triton.persistent_tma")

Why = Callable[[Kernel], str]


def preference(
    problem: Problem, kernels: Sequence[Kernel], measured: Measurement | None
) -> tuple[list[Kernel], Why]:
    """The kernels in the order to try them, and a function that says why one was reached."""
    order = ON_CPU if problem.device == "cpu" else ON_CUDA
    ranks = {name: rank for rank, name in enumerate(order)}

    def rank(kernel: Kernel) -> int:
        if measured is not None and kernel.name == measured.kernel:
            return -1
        return ranks.get(kernel.name, len(order))

    def why(kernel: Kernel) -> str:
        if measured is not None and kernel.name == measured.kernel:
            return (
                f"it was the fastest at ({measured.m}, {measured.n}, {measured.k}), the measured "
                f"shape nearest to this one: {measured.microseconds:g} us"
            )
        return f"it comes first, of those that can run, in the order for {problem.device} devices"

    return sorted(kernels, key=rank), why
