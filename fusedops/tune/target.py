"""A workbench without a card: candidates are compiled for it, and nothing is timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusedops.registry import Kernel, Problem
from fusedops.tune import figures
from fusedops.tune.pool import Pool
from fusedops.tune.trial import Resources


class TargetBench:
    """Of one kernel and one problem on a card that need not be here."""

    times_anything = False

    def __init__(self, kernel: Kernel, problem: Problem, pool: Pool) -> None:
        self._kernel = kernel
        self._problem = problem
        self._pool = pool

    def expect(self, configs: Sequence[Any]) -> None:
        self._pool.expect(self._kernel, self._problem, configs)

    def resources(self, config: Any) -> Resources:
        self._pool.wait(self._kernel, self._problem, config)
        return figures.of_target(self._kernel, self._problem, config)

    def error(self, config: Any) -> float:
        raise NotImplementedError("there is no card to run it on")

    def times(self, configs: Sequence[Any], rounds: int) -> list[list[float]]:
        raise NotImplementedError("there is no card to time it on")
