"""Every configuration of a space: what a search is held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fusedops.tune.attempts import Attempts, Stopped
from fusedops.tune.judge import HOPELESS, compare, modelled
from fusedops.tune.trial import ADOPTED, COMPUTED, REVERTED, TILES, Best, Trial
from fusedops.tune.workbench import FEW_ROUNDS, ROUNDS

MOST_OF_A_FRONT = 24


class Exhaustive:
    """All of them by one call, those near the fastest by a few, the front by many, interleaved."""

    def __init__(
        self, attempts: Attempts, configs: Mapping[str, Any], *, rounds: int = ROUNDS
    ) -> None:
        self._attempts = attempts
        self._configs = configs
        self._rounds = rounds
        self._times: dict[str, float] = {}
        self._fastest: Trial | None = None
        self._decisions: tuple[str, ...] = ()

    def run(self) -> Best | None:
        try:
            self._attempts.bench.expect(list(self._configs.values()))
            for name in self._configs:
                trial = self._attempts.attempt(name, TILES, "every one", self._judge, None)
                if trial.microseconds is not None:
                    self._times[name] = trial.microseconds
        except Stopped as why:
            self._decisions = (f"stopped: {why}",)
        if self._times:
            self._fastest = self._fastest_of_the_front()
        return self.best()

    def best(self) -> Best | None:
        """The best found so far; None where nothing was right."""
        best = self._fastest or self._best_so_far()
        if best is None:
            return None
        return Best(best, len(self._attempts.trials), len(self._configs), self._decisions)

    def _best_so_far(self) -> Trial | None:
        """By a time or a few; where nothing is timed, as a search chooses."""
        trials = self._attempts.trials
        if self._times:
            return replace(trials[min(self._times, key=self._times.__getitem__)], verdict=ADOPTED)
        computed = [each for each in trials.values() if each.verdict == COMPUTED]
        return min(computed, key=lambda each: modelled(each, ()), default=None)

    def _judge(self, trial: Trial) -> Trial:
        if not self._attempts.bench.times_anything:
            return trial
        config = self._configs[trial.config]
        fastest = min(self._times.values(), default=None)
        for rounds in (1, FEW_ROUNDS):
            (samples,) = self._attempts.bench.times([config], rounds)
            found = compare(samples, samples)
            if fastest is not None and found.microseconds > HOPELESS**2 * fastest:
                break
        why = f"{found.microseconds:.4g} us in {rounds} rounds"
        return replace(trial, microseconds=found.microseconds, verdict=REVERTED, why=why)

    def _fastest_of_the_front(self) -> Trial:
        """Of the front, timed together."""
        names = sorted(self._times, key=self._times.__getitem__)
        limit = HOPELESS * self._times[names[0]]
        front = [name for name in names if self._times[name] <= limit][:MOST_OF_A_FRONT]
        times = self._attempts.bench.times([self._configs[name] for name in front], self._rounds)
        medians = {
            name: compare(each, each).microseconds for name, each in zip(front, times, strict=True)
        }
        best = min(medians, key=medians.__getitem__)
        why = f"the fastest of {len(front)} at the front, in {self._rounds} rounds together"
        trial = self._attempts.trials[best]
        return replace(trial, microseconds=medians[best], verdict=ADOPTED, why=why)
