"""Compiled kernels: what their machine code stores, spills and multiplies with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from fusedops.checks import DTYPES
from fusedops.lint.breach import Breach
from fusedops.lint.machine import cuda_programs, triton_programs
from fusedops.lint.machine.program import Program, writes_z
from fusedops.lint.machine.tools import Unchecked
from fusedops.registry import Card, Kernel, Problem

SHAPES = ((1024, 8192, 8192), (16, 4096, 4096))
"""The first that a kernel takes."""

SOURCES: dict[str, Callable[[Kernel, Problem], Iterator[Program]]] = {
    "triton": triton_programs.programs,
    "cuda": cuda_programs.programs,
}


@dataclass(frozen=True)
class Found:
    breaches: tuple[Breach, ...]
    notes: tuple[str, ...]
    programs: int


def check_kernel(
    kernel: Kernel,
    card: Card,
    shape: tuple[int, int, int] | None = None,
    dtype: torch.dtype | None = None,
) -> Found:
    """Every configuration of a kernel for a card, in every dtype that it takes, or in one."""
    if kernel.backend not in SOURCES:
        raise Unchecked(f"{kernel.name} is no code for a card")
    programs: list[Program] = []
    for problem in problems(kernel, card, shape, dtype):
        programs += SOURCES[kernel.backend](kernel, problem)
    # A configuration may serve several problems with the same code.
    distinct = {program.name: program for program in programs}.values()
    breaches = tuple(breach for each in distinct for breach in each.breaches())
    notes = tuple(dict.fromkeys(note for each in distinct for note in each.notes))
    return Found(breaches, notes, len(distinct))


def problems(
    kernel: Kernel,
    card: Card,
    shape: tuple[int, int, int] | None,
    dtype: torch.dtype | None,
) -> list[Problem]:
    """The problems to compile for, one an arithmetic, or the reason why there is none."""
    found: dict[tuple[str, bool], Problem] = {}
    refused: tuple[str, ...] = ()
    for each in (dtype,) if dtype else DTYPES:
        for size in (shape,) if shape else SHAPES:
            plain = Problem.contiguous(*size, each, bias_dtype=each, card=card)
            for problem in _with_z(kernel, _arithmetics(plain)):
                reasons = kernel.why_not(problem)
                refused = refused or reasons
                if not reasons:
                    found.setdefault((problem.arithmetic, writes_z(problem)), problem)
    if not found:
        raise Unchecked(refused[0])
    return list(found.values())


def _with_z(kernel: Kernel, problems: Iterator[Problem]) -> Iterator[Problem]:
    """Also with z as a second result, of a kernel that can write it."""
    second: dict[str, Any] = {"writes_z": True}
    for problem in problems:
        yield problem
        if writes_z(kernel):
            yield replace(problem, **second)


def _arithmetics(problem: Problem) -> Iterator[Problem]:
    """As it is, and with the switch of PyTorch's that matters to its dtype."""
    yield problem
    if problem.dtype == torch.float32:
        yield replace(problem, fp32_precision="tf32")
    if problem.dtype == torch.float16:
        yield replace(problem, allow_fp16_accumulation=True)


__all__ = ["Found", "Unchecked", "check_kernel"]
