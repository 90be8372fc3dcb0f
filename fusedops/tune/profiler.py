"""Nsight Compute's part in a search: what is adopted is looked at, and the rules hear of it."""

from __future__ import annotations

from typing import Protocol

from fusedops.tune import ncu
from fusedops.tune.counters import FAILED, Figures
from fusedops.tune.trial import Trial


class Profiler(Protocol):
    """said: what looked, or why nothing does."""

    said: str

    def figures(self, trial: Trial) -> Figures | None:
        """Of one candidate, or ``FAILED`` and why it has none; None where nothing looks."""


class NoProfiler:
    """None was asked for."""

    said = ""

    def figures(self, trial: Trial) -> Figures | None:
        return None


class NsightCompute:
    """Where it is missing or forbidden, the search goes on with the compiler's figures."""

    def __init__(self) -> None:
        self._is_there = True
        try:
            self.said = ncu.described()
        except ncu.Absent as why:
            self._give_up(why)

    def figures(self, trial: Trial) -> Figures | None:
        if not self._is_there:
            return None
        try:
            return ncu.profile(trial.shape, trial.dtype, trial.kernel, trial.config)
        except ncu.Failed as why:  # the next candidate may fare better
            return {FAILED: str(why)}
        except ncu.Absent as why:
            self._give_up(why)
            return None

    def _give_up(self, why: ncu.Absent) -> None:
        self._is_there = False
        self.said = f"absent, so the rules went by the compiler's figures: {why}"
