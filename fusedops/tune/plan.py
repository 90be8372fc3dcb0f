"""What to tune, and the problem that each kernel is tuned for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fusedops import backends
from fusedops.plans import fp32_precision
from fusedops.registry import BackwardProblem, Card, Kernel, Problem, backward_problem
from fusedops.tune import work
from fusedops.tune.trial import Shape
from fusedops.tune.workbench import ROUNDS


@dataclass(frozen=True)
class Plan:
    """What to tune.

    target: the card to compile for where none is used; None: the card here, ``device``.
    budget: seconds after which no candidate is started. folder: where journals go; None: nowhere.
    ncu: whether Nsight Compute looks at what is adopted.
    """

    shapes: Sequence[Shape]
    dtype: torch.dtype
    kernels: Sequence[Kernel]
    device: torch.device
    target: Card | None = None
    architecture: str = ""
    budget: float | None = None
    folder: Path | None = None
    exhaustive: bool = False
    jobs: int = 1
    rounds: int = ROUNDS
    allow_fp16_accumulation: bool = False
    ncu: bool = False


def problem_on(card: Card, shape: Shape, dtype: torch.dtype, kernel: Kernel) -> Problem:
    """The problem that is tuned for a card that is not here, of contiguous operands with a bias."""
    if kernel not in backends.backward_kernels():
        problem = Problem.contiguous(*shape, dtype, bias_dtype=dtype, card=card)
        return replace(problem, fp32_precision=fp32_precision())
    m, n, _ = shape
    placed: BackwardProblem = backward_problem(
        m, n, dtype, steps=work.steps(dtype), bias_dtype=dtype
    )
    return card.place(placed)
