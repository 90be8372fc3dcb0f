"""One candidate after another: compiled, checked, timed, written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from fusedops.tune.journal import Journal
from fusedops.tune.trial import COMPUTED, FAILED, REVERTED, WRONG, Shape, Trial
from fusedops.tune.workbench import CardLost, Workbench

Judge = Callable[[Trial], Trial]
"""Times a candidate that is right, and gives the verdict."""


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


class Stopped(Exception):
    """No more candidates are to be started: why."""


class Watch(Protocol):
    """Who wants to know what goes on."""

    def trying(self, trial: Trial, number: int, best: Trial | None) -> None: ...

    def tried(self, trial: Trial) -> None: ...


class Attempts:
    """The trials of one search, in order.

    A trial that the journal has is taken from there. most: so many are started and no more.
    """

    def __init__(
        self,
        subject: tuple[Shape, str, str],
        configs: Mapping[str, Any],
        bench: Workbench,
        journal: Journal,
        *,
        most: int,
        out_of_time: Callable[[], bool],
        watch: Watch,
        estimate: Callable[[Any], float],
    ) -> None:
        self.trials: dict[str, Trial] = {}
        self.bench = bench
        self._subject = subject
        self._configs = configs
        self._journal = journal
        self._most = most
        self._out_of_time = out_of_time
        self._watch = watch
        self._estimate = estimate

    def allow(self, more: int) -> None:
        self._most += more

    def attempt(
        self, name: str, stage: str, reason: str, judge: Judge, best: Trial | None
    ) -> Trial:
        """Try a candidate that has not been tried. Raises Stopped where no more may be started."""
        if len(self.trials) >= self._most:
            raise Stopped(f"{self._most} candidates were tried, the most for a space of this size")
        trial = self._journal.finished.get(name)
        if trial is None:
            if self._out_of_time():
                raise Stopped("the time is spent")
            trial = self._new(name, stage, reason, judge, best)
        self.trials[name] = trial
        self._watch.tried(trial)
        return trial

    def _new(self, name: str, stage: str, reason: str, judge: Judge, best: Trial | None) -> Trial:
        config = self._configs[name]
        trial = Trial(*self._subject, name, stage, reason, estimate=self._estimate(config))
        self._watch.trying(trial, len(self.trials) + 1, best)
        lost: CardLost | None = None
        try:
            trial = self._examined(trial, config)
            if trial.verdict == COMPUTED:
                trial = judge(trial)
        except Exception as error:  # a compiler or a card may fail in any way
            why = f"{type(error).__name__}: {first_line(error)}"
            trial = replace(trial, verdict=FAILED, why=why)
            lost = error if isinstance(error, CardLost) else None
        self._journal.append(trial)
        if lost is not None:
            raise lost
        return trial

    def _examined(self, trial: Trial, config: Any) -> Trial:
        """COMPUTED, where nothing is wrong with it."""
        found = self.bench.resources(config)
        trial = replace(trial, resources=found)
        if found.local_bytes:
            why = f"its registers spill, {found.local_bytes} bytes a thread: it is not fused"
            return replace(trial, verdict=REVERTED, why=why)
        if found.blocks == 0:
            return replace(trial, verdict=FAILED, why=f"no block fits the card: {found.limiter}")
        if self.bench.times_anything:
            error = self.bench.error(config)
            trial = replace(trial, error_over_bound=error)
            if not error <= 1:
                why = f"its error is {error:.3g} times the bound: it is never adopted"
                return replace(trial, verdict=WRONG, why=why)
        return replace(trial, verdict=COMPUTED)
