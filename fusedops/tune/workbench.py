"""What a search needs of the machine: a candidate compiled, checked and timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fusedops.tune.trial import Resources

ROUNDS, FEW_ROUNDS = 15, 3


class CardLost(Exception):
    """The card answers nothing more to this process: a kernel has gone wrong on it."""


class Workbench(Protocol):
    """Of one kernel and one problem. Any of these may raise: the candidate has then failed."""

    times_anything: bool
    """False where there is no card: ``error`` and ``times`` are then not asked for."""

    def expect(self, configs: Sequence[Any]) -> None:
        """They are likely to be next: compile them meanwhile."""

    def resources(self, config: Any) -> Resources:
        """Compile the candidate, and say what it takes."""

    def error(self, config: Any) -> float:
        """Run it over NaN; its largest error, as a fraction of the bound."""

    def times(self, configs: Sequence[Any], rounds: int) -> list[list[float]]:
        """Microseconds of each, in as many rounds, interleaved."""
