"""Which kernel and which configurations a file is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fusedops import backends
from fusedops.export.kernels import KERNELS
from fusedops.registry import Card, Kernel, Problem, Request, dtype_name, select
from fusedops.tables import table_for
from fusedops.triton_kernels.config import WARP, Config, shared_memory_limit, stores_by_tma

HALF = (torch.float16, torch.bfloat16)
TMA = "triton.persistent_tma"
BASELINE = {"num_warps": 4, "num_stages": 2}
"""The conservative configuration, which every list of configurations holds."""

CONSERVATIVE_REGISTERS = 64
"""What the baseline's sums take of each thread at most: 128 spill, on 8.9 and in two stages."""

MOST_CONFIGURATIONS = 4
REGISTERS = 65536
MOST_OF_A_THREAD = 256
OF_EVERY_BLOCK = 1024
"""Registers of a multiprocessor and of a thread; bytes of shared memory the card keeps of each
block (CUDA programming guide, 8.9 and 9.0)."""


class Refused(Exception):
    """Why there can be no file, in words."""


@dataclass(frozen=True)
class Choice:
    """configs: the best first, which ``why`` speaks of; alone unless they are for the autotuner."""

    problem: Problem
    card: Card
    kernel: Kernel
    configs: tuple[Any, ...]
    why: str


def choose(
    shape: tuple[int, int, int], dtype: torch.dtype, card: Card, name: str | None, *, many: bool
) -> Choice:
    """What the registry selects, of the kernels that can be a file; ``name``: of this one.

    Raises Refused, and NoKernelError where no kernel can run the problem.
    """
    if dtype not in HALF:
        raise Refused(
            f"the weight would be {dtype_name(dtype)}, and the format has float16 or bfloat16: it "
            "is multiplied on tensor cores, in half precision"
        )
    if name is not None and name not in KERNELS:
        raise Refused(_why_not_that(name))
    problem = Problem.contiguous(*shape, dtype, bias_dtype=dtype, card=card)
    if name == TMA and not stores_by_tma(problem):
        raise Refused(
            f"N is {problem.n}, and {TMA} in a file stores rows of a multiple of 16 bytes: pad N, "
            "or let the registry choose"
        )
    able = [each for each in KERNELS if each != TMA or stores_by_tma(problem)]
    # What this process happens to have compiled is no reason.
    kernels = [
        replace(each, ready=lambda problem, config: True)
        for each in backends.kernels()
        if each.name in ((name,) if name else able)
    ]
    if name is not None:
        _check_that(kernels[0], problem)
    table = table_for(problem)
    best = select(problem, Request(), kernels, {}, table)
    configs = (best.config,)
    if many:
        predicted = table.predict(problem, [best.kernel]) if table is not None else []
        ranked = [each.config for each in predicted] + list(best.kernel.configs(problem))
        configs = _with_baseline(problem, [best.config, *ranked])
    return Choice(problem, card, best.kernel, configs, best.why)


def resident(problem: Problem, config: Config) -> int:
    """How many programs a multiprocessor has room for, even where each thread takes all it can."""
    threads = WARP * config.num_warps
    shared = shared_memory_limit(problem) + OF_EVERY_BLOCK
    by_memory = shared // (config.shared_memory(problem) + OF_EVERY_BLOCK)
    return max(1, min(by_memory, REGISTERS // (threads * MOST_OF_A_THREAD)))


def _with_baseline(problem: Problem, configs: Sequence[Any]) -> tuple[Any, ...]:
    """At most four, alike but for the tile, its warps and stages; the baseline is the last."""
    form = {
        name: getattr(configs[0], name)
        for name in ("pieces", "flatten")
        if hasattr(configs[0], name)
    }
    alike = dict.fromkeys(replace(each, **form) for each in configs)
    valid = [each for each in alike if not each.why_invalid(problem)]
    baseline = next(
        each
        for each in (replace(each, **BASELINE) for each in alike)
        if not each.why_invalid(problem) and each.registers(problem) <= CONSERVATIVE_REGISTERS
    )
    others = [each for each in valid if each != baseline]
    return (*others[: MOST_CONFIGURATIONS - 1], baseline)


def _check_that(kernel: Kernel, problem: Problem) -> None:
    if reasons := kernel.reasons(problem):
        lines = (f"{kernel.name} cannot run {problem}", *(f"  - {each}" for each in reasons))
        others = " or ".join(each for each in KERNELS if each != kernel.name)
        raise Refused("\n".join((*lines, f"Remedy: name {others}, or no kernel")))


def _why_not_that(kernel: str) -> str:
    names = [each.name for each in backends.kernels()]
    if kernel not in names:
        return f"unknown kernel {kernel!r}; known: {', '.join(KERNELS)}"
    if not kernel.startswith("triton."):
        return f"{kernel} is not written in Triton; choose one of {', '.join(KERNELS)}"
    why = {
        "triton.pingpong": "it is written in Gluon, which is another import than the format has",
        "triton.skinny": "it takes few rows of x, and the file has to take any batch",
    }
    return f"{kernel} cannot be exported: {why[kernel]}; choose one of {', '.join(KERNELS)}"
