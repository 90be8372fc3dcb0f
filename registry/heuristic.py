"""The order in which kernels are tried where nothing was measured."""

from __future__ import annotations

from collections.abc import Sequence

from .kernel import Kernel
from .problem import Problem

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
ON_CPU = (
    "cpu.blocked",
    "torch.reference",
    "triton.tiled",
    "triton.persistent_tma",
    "triton.skinny",
)


def preference(problem: Problem, kernels: Sequence[Kernel]) -> list[Kernel]:
    """The kernels in the order to try them."""
    order = ON_CPU if problem.device == "cpu" else ON_CUDA
    ranks = {name: rank for rank, name in enumerate(order)}
    return sorted(kernels, key=lambda kernel: ranks.get(kernel.name, len(order)))
