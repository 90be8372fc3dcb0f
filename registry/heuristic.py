"""The order in which kernels are tried where nothing was measured."""

from __future__ import annotations

from collections.abc import Sequence

from .backward import BackwardProblem
from .kernel import Kernel
from .problem import FEW_ROWS, Problem

ON_CUDA = (
    "cuda.sm90_cooperative",
    "cuda.sm90_pingpong",
    "cuda.sm90_transposed",
    "cuda.sm90_tf32",
    "cuda.sm90_fp32_split",
    "triton.skinny",
    "triton.pingpong",
    "triton.persistent_tma",
    "cuda.sm80_fp16_accumulation",
    "cuda.sm80_multistage",
    "cuda.simt",
    "triton.tiled",
    "torch.reference",
)
"""Fastest first in docs/performance.md, NVIDIA H200, of those that take the same problems; those of
mma.sync as in docs/performance/ada.md. triton.skinny takes few rows alone."""
ON_CUDA_WITH_FEW_ROWS = ("cuda.sm90_skinny", "cuda.skinny", *ON_CUDA)
"""Those that stream the weights come first, measured in docs/performance/skinny.md."""
ON_CPU = (
    "cpu.blocked",
    "torch.reference",
    "triton.tiled",
    "triton.persistent_tma",
    "triton.skinny",
)
GRADIENT = ("cuda.backward", "triton.backward", "cpu.backward", "torch.reference_backward")
"""On a card as measured in docs/performance/backward.md, NVIDIA H200."""


def preference(problem: Problem, kernels: Sequence[Kernel]) -> list[Kernel]:
    """The kernels in the order to try them."""
    few_rows = problem.m <= FEW_ROWS
    order: tuple[str, ...] = ON_CPU
    if problem.device == "cuda":
        order = ON_CUDA_WITH_FEW_ROWS if few_rows else ON_CUDA
    if isinstance(problem, BackwardProblem):
        order = GRADIENT
    ranks = {name: rank for rank, name in enumerate(order)}
    return sorted(kernels, key=lambda kernel: ranks.get(kernel.name, len(order)))
