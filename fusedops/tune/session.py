"""A whole run: every shape, every kernel in turn, and the session that comes of it."""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch

from fusedops import backends
from fusedops.bench.report import COLD_L2, GRAPH, command, versions
from fusedops.bench.workload import shape_name
from fusedops.plans import choose, device_facts
from fusedops.registry import (
    FEW_ROWS,
    Card,
    Kernel,
    Problem,
    Request,
    reasons_against,
)
from fusedops.timing import samples
from fusedops.tune import attempts, work
from fusedops.tune.attempts import Attempts
from fusedops.tune.card import CardBench, card_may_be_lost
from fusedops.tune.exhaustive import Exhaustive
from fusedops.tune.header import header, journal_path
from fusedops.tune.journal import Journal
from fusedops.tune.neighbours import Map
from fusedops.tune.plan import Plan, measured_starts, problem_on
from fusedops.tune.pool import Pool
from fusedops.tune.profiler import NoProfiler, NsightCompute, Profiler
from fusedops.tune.search import Search, most_trials
from fusedops.tune.target import TargetBench
from fusedops.tune.trial import BASELINE, REVERTED, Best, Session, Shape, Trial
from fusedops.tune.workbench import Workbench

NOT_TIMED = "compiled for the card, not timed: by the kernel's own estimate"


class Watch(attempts.Watch, Protocol):
    """Who wants to know what goes on."""

    def searching(self, subject: tuple[Shape, str, str], most: int, note: str) -> None: ...

    def skipped(self, what: str, why: str) -> None: ...


class Tuning:
    """A plan under way: ``run`` it, and ask for the session at any time."""

    def __init__(self, plan: Plan, watch: Watch, pool: Pool | None = None) -> None:
        """pool: one that outlives the run; None: its own."""
        self._plan = plan
        self._watch = watch
        self._trials: list[Trial] = []
        self._best: list[Best] = []
        self._others: list[Best] = []
        self._skipped: dict[str, str] = {}
        self._end = None if plan.budget is None else time.monotonic() + plan.budget
        self._pool = pool or Pool(plan.jobs)
        self._owns_pool = pool is None
        self._profiler: Profiler = NsightCompute() if plan.ncu else NoProfiler()
        self._profiled_by = self._profiler.said

    def run(self) -> None:
        try:
            for shape in self._plan.shapes:
                for kernels in self._by_operator():
                    if self._plan.target is None:
                        self._on_card(shape, kernels)
                    else:
                        self._on_target(shape, kernels, self._plan.target)
        finally:
            if self._owns_pool:
                self._pool.close()

    def session(self) -> Session:
        facts = self._facts()
        return Session(
            device=facts["device_name"],
            capability=facts["capability"],
            versions=versions(),
            date=datetime.date.today().isoformat(),
            command=command(),
            target=self._plan.architecture,
            method=self._method(),
            trials=tuple(self._trials),
            best=tuple(self._best),
            others=tuple(self._others),
            skipped=dict(self._skipped),
            profiled=self._profiler.said,
        )

    def _facts(self) -> Mapping[str, Any]:
        card = self._plan.target
        if card is None:
            return device_facts(self._plan.device)
        return {"device_name": card.name, "capability": card.capability}

    def _method(self) -> str:
        if self._plan.target is not None:
            return NOT_TIMED
        few = {shape[0] <= FEW_ROWS for shape in self._plan.shapes}
        ways = ([COLD_L2] if False in few else []) + ([GRAPH] if True in few else [])
        return f"{'; few rows: '.join(ways)}; {self._plan.rounds} rounds"

    def _by_operator(self) -> Iterator[Sequence[Kernel]]:
        """The kernels of the operator, and those of its gradient."""
        backward = {kernel.name for kernel in backends.backward_kernels()}
        for of_gradient in (False, True):
            kernels = [
                each for each in self._plan.kernels if (each.name in backward) == of_gradient
            ]
            if kernels:
                yield kernels

    def _on_card(self, shape: Shape, kernels: Sequence[Kernel]) -> None:
        backward = kernels[0] in backends.backward_kernels()
        make = work.Backward if backward else work.forward
        try:
            done = make(shape, self._plan.dtype, self._plan.device)
        except torch.cuda.OutOfMemoryError as error:
            self._skip(shape_name(shape), str(error).splitlines()[0])
            return
        finals: list[tuple[Best, CardBench]] = []
        for kernel in self._able(shape, done.problem, kernels):
            bench = CardBench(kernel, done, self._plan.device, self._pool)
            best = self._search(shape, done.problem, kernel, bench)
            if best is not None:
                finals.append((best, bench))
        tuned = len(finals)
        if not backward and finals and not self._plan.exhaustive:
            finals += self._today(shape, done, {kernel.name for kernel in kernels})
        timed = self._together(finals, done.calls)
        self._best += timed[:tuned]
        self._others += timed[tuned:]

    def _today(
        self, shape: Shape, done: work.Work, tuned: set[str]
    ) -> Iterator[tuple[Best, CardBench]]:
        """What the registry takes, where that is a kernel that is not being tuned."""
        choice = choose(done.problem, Request())
        if choice.kernel.name in tuned or choice.kernel.backend == "reference":
            return
        bench = CardBench(choice.kernel, done, self._plan.device, self._pool)
        if not bench.error(choice.config) <= 1:
            return
        subject = shape, done.problem.arithmetic, choice.kernel.name
        why = "to compare with"
        trial = Trial(*subject, str(choice.config), BASELINE, why, verdict=REVERTED, why=choice.why)
        yield Best(trial, 0, 0), bench

    def _together(self, finals: Sequence[tuple[Best, CardBench]], calls_each: int) -> list[Best]:
        """Times of one run compare: those of all the kernels' best."""
        with card_may_be_lost():
            calls = {
                str(place): bench.call_of(best.trial.config)
                for place, (best, bench) in enumerate(finals)
            }
            times = samples(calls, self._plan.device, rounds=self._plan.rounds, warmup=1)
        return [
            replace(best, microseconds=statistics.median(times[str(place)]) / calls_each)
            for place, (best, _) in enumerate(finals)
        ]

    def _on_target(self, shape: Shape, kernels: Sequence[Kernel], card: Card) -> None:
        problem = problem_on(card, shape, self._plan.dtype, kernels[0])
        problem = replace(problem, allow_fp16_accumulation=self._plan.allow_fp16_accumulation)
        for kernel in self._able(shape, problem, kernels):
            bench = TargetBench(kernel, problem, self._pool)
            best = self._search(shape, problem, kernel, bench)
            if best is not None:
                self._best.append(best)

    def _able(self, shape: Shape, problem: Problem, kernels: Sequence[Kernel]) -> Iterator[Kernel]:
        missing = {} if self._plan.target is not None else backends.missing()
        for kernel in kernels:
            reasons = reasons_against(kernel, problem, missing)
            if not reasons and kernel.tuned_over(problem).configs[0] is None:
                reasons = ("it has one configuration: there is nothing to tune",)
            if not reasons:
                yield kernel
                continue
            self._skip(f"{shape_name(shape)} {kernel.name}", reasons[0])

    def _skip(self, what: str, why: str) -> None:
        self._skipped[what] = why
        self._watch.skipped(what, why)

    def _search(
        self, shape: Shape, problem: Problem, kernel: Kernel, bench: Workbench
    ) -> Best | None:
        plan = self._plan
        space = Map(kernel.tuned_over(problem))
        size = len(space.configs)
        subject = (shape, problem.arithmetic, kernel.name)
        starts = [] if plan.exhaustive else measured_starts(kernel, problem)
        said = header(plan, problem, subject, space, starts, self._profiled_by)
        journal = Journal(journal_path(plan, subject), said)
        most = size if plan.exhaustive else most_trials(size)
        self._watch.searching(subject, most, journal.notice)
        tries = Attempts(
            subject,
            space.configs,
            bench,
            journal,
            most=most,
            out_of_time=self._is_out_of_time,
            watch=self._watch,
            estimate=partial(kernel.estimate, problem),
        )
        try:
            if plan.exhaustive:
                return Exhaustive(tries, space.configs, rounds=plan.rounds).run()
            return Search(
                kernel,
                problem,
                tries,
                space,
                starts=starts,
                rounds=plan.rounds,
                profiler=self._profiler,
            ).run()
        finally:
            self._pool.forget(kernel, problem)
            self._trials += tries.trials.values()

    def _is_out_of_time(self) -> bool:
        return self._end is not None and time.monotonic() > self._end
