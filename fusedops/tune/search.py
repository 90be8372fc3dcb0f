"""The search: tiles by the kernel's own estimate, then around the best; warps and stages by rule.

It decides by what trials found and by nothing else, so the same trials lead to the same end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fusedops.registry import Kernel, Problem
from fusedops.tune import counter_rules
from fusedops.tune.attempts import Attempts, Stopped
from fusedops.tune.contest import contest
from fusedops.tune.judge import computed, modelled
from fusedops.tune.neighbours import SIDES, Map
from fusedops.tune.profiler import NoProfiler, Profiler
from fusedops.tune.rules import Facts, advice, distinct_loads, next_round
from fusedops.tune.trial import (
    ADOPTED,
    BASELINE,
    COMPUTED,
    TILES,
    WARPS_AND_STAGES,
    Best,
    Trial,
)
from fusedops.tune.workbench import ROUNDS

SHARE, FEW = 15, 7
"""A search tries at most one candidate of SHARE, or FEW: less than a tenth, so that even with the
kernels that have few configurations all searches together try no more than a tenth."""
FAMILIES = 8
"""Tiles of different sides that are tried first."""
CLIMBED, SETTLED = 2, 3
"""The best so far whose neighbours are tried, and whose warps and stages."""


class Search:
    """Of one kernel and one problem."""

    def __init__(
        self,
        kernel: Kernel,
        problem: Problem,
        attempts: Attempts,
        space: Map,
        *,
        starts: Sequence[str] = (),
        late_starts: Sequence[str] = (),
        rounds: int = ROUNDS,
        profiler: Profiler | None = None,
    ) -> None:
        """starts: the configurations that the registry would take; late_starts: those that it would
        take only since the search began, which are tried after all."""
        self._profiler = profiler or NoProfiler()
        self.decisions: list[str] = []
        self._kernel = kernel
        self._attempts = attempts
        self._map = space
        self._loads = distinct_loads(problem)
        self._starts = [*starts, str(space.space.configs[0])]
        self._late_starts = late_starts
        self._own = [str(config) for config in kernel.configs(problem)]
        self._estimates = {
            name: kernel.estimate(problem, config) for name, config in space.configs.items()
        }
        self._rounds = rounds
        self._incumbent: Trial | None = None
        self._scores: dict[str, Any] = {}
        self._settled: set[str] = set()

    def run(self) -> Best | None:
        """``best``, when there is nothing left to try."""
        for part in (self._from_the_start, self._from_late_starts):
            try:
                part()
            except Stopped as why:
                self.decisions.append(f"stopped: {why}")
        return self.best()

    def best(self) -> Best | None:
        """The best found so far; None where nothing was right."""
        if self._incumbent is None:
            return None
        tried = len(self._attempts.trials)
        return Best(self._incumbent, tried, len(self._map.configs), tuple(self.decisions))

    def _from_the_start(self) -> None:
        self._baseline()
        self._families()
        self._improve()

    def _from_late_starts(self) -> None:
        new = [name for name in self._late_starts if name not in self._attempts.trials]
        self._attempts.allow(len(new))
        for name in new:
            self._try(name, BASELINE, "what the registry would take since")
        if new:
            self._improve()

    def _baseline(self) -> None:
        for name in dict.fromkeys(self._starts):
            self._try(name, BASELINE, "what the registry would take")
        for name in self._own:
            if self._incumbent is not None:
                return
            self._try(name, BASELINE, "what was to be taken cannot be")

    def _families(self) -> None:
        """One tile of each of the best families, by the kernel's estimate."""
        members: dict[Any, list[str]] = {}
        for name in sorted(self._map.configs, key=self._estimates.__getitem__):
            members.setdefault(self._map.family(name), []).append(name)
        best = list(members.values())[:FAMILIES]
        chosen = [(self._representative(each), self._estimates[each[0]]) for each in best]
        self._expect([name for name, _ in chosen])
        for place, (name, estimate) in enumerate(chosen, 1):
            over = estimate / chosen[0][1]
            self._try(name, TILES, f"estimate: {place} of {len(members)}, {over:.3g} x the least")

    def _representative(self, family: Sequence[str]) -> str:
        own = [name for name in self._own if name in family]
        if own:
            return own[0]
        like = self._starts[0] if self._incumbent is None else self._incumbent.config
        return self._map.nearest(like, family, apart_from=SIDES)

    def _improve(self) -> None:
        """Until nothing beside the best is left to try."""
        while True:
            before = len(self._attempts.trials)
            for trial in self._best_tiles(SETTLED):
                self._settle(trial)
            for trial in self._best_tiles(CLIMBED):
                self._climb(trial)
            if len(self._attempts.trials) == before:
                return

    def _climb(self, trial: Trial) -> None:
        around = self._map.around(trial.config)
        self._expect(around)
        for name in around:
            same_tile = self._map.tile(name) == self._map.tile(trial.config)
            stage = WARPS_AND_STAGES if same_tile else TILES
            self._try(name, stage, f"beside {trial.config}, {self._standing(trial)}")

    def _settle(self, trial: Trial) -> None:
        """One round: what the rules say of this configuration's warps and stages."""
        setting = self._map.setting(trial.config)
        if setting is None or trial.resources is None or trial.config in self._settled:
            return
        self._settled.add(trial.config)
        given = advice(Facts(trial.resources, self._loads, setting))
        if trial.profile is not None:
            given += counter_rules.advice(trial.profile, setting)
        self.decisions += [f"{trial.config}: {each}" for each in given]
        if not given:
            registers = trial.resources.registers
            self.decisions.append(f"{trial.config}: no rule fires at {registers} registers")
        wanted = []
        for each, why in next_round(given).items():
            name, why_not = self._map.with_setting(trial.config, each)
            if name is None:
                self.decisions.append(f"{trial.config}: {each}: not tried: {why_not}")
            else:
                wanted.append((name, why))
        self._expect([name for name, _ in wanted])
        for name, why in wanted:
            self._try(name, WARPS_AND_STAGES, why)

    def _best_tiles(self, count: int) -> list[Trial]:
        """The best configuration of each of so many tiles, the best first."""
        found: dict[Any, Trial] = {}
        for name in sorted(self._scores, key=self._scores.__getitem__):
            found.setdefault(self._map.tile(name), self._attempts.trials[name])
        return list(found.values())[:count]

    def _expect(self, names: Sequence[str]) -> None:
        new = [name for name in names if name not in self._attempts.trials]
        self._attempts.bench.expect([self._map.configs[name] for name in new])

    def _try(self, name: str, stage: str, reason: str) -> None:
        if name in self._attempts.trials:
            return
        trial = self._attempts.attempt(name, stage, reason, self._judge, self._incumbent)
        if self._attempts.bench.times_anything:
            self._rank_by_time(trial)
        elif trial.verdict == COMPUTED:
            self._rank_by_estimate(trial)

    def _rank_by_time(self, trial: Trial) -> None:
        """Times of different runs do not compare: each counts beside the incumbent's of its run."""
        if trial.microseconds is None:
            return
        ratio = 1.0
        if self._incumbent is not None and self._incumbent.microseconds:
            beside = trial.incumbent_microseconds or self._incumbent.microseconds
            ratio = trial.microseconds / beside * self._scores[self._incumbent.config]
        self._scores[trial.config] = ratio
        first_of_another_run = self._incumbent is not None and trial.incumbent_microseconds is None
        if trial.verdict == ADOPTED and not first_of_another_run:
            self._incumbent = trial

    def _rank_by_estimate(self, trial: Trial) -> None:
        self._scores[trial.config] = modelled(trial, self._own)
        best = min(self._scores, key=self._scores.__getitem__)
        self._incumbent = self._attempts.trials[best]

    def _standing(self, trial: Trial) -> str:
        if not self._attempts.bench.times_anything:
            return "of the least estimate so far"
        incumbent = self._incumbent
        if incumbent is None or incumbent.config == trial.config:
            return "the best so far"
        slower = self._scores[trial.config] / self._scores[incumbent.config]
        return f"{slower:.3g} x the best so far"

    def _judge(self, trial: Trial) -> Trial:
        if not self._attempts.bench.times_anything:
            return replace(trial, why=computed(trial))
        names = [trial.config] + ([self._incumbent.config] if self._incumbent else [])
        configs = [self._map.configs[name] for name in names]
        trial = contest(trial, configs, self._attempts.bench, self._rounds)
        if trial.verdict != ADOPTED:
            return trial
        return replace(trial, profile=self._profiler.figures(trial))


def most_trials(size: int) -> int:
    """Of a search of a space of so many configurations."""
    return min(size, max(FEW, size // SHARE))
