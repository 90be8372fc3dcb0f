"""A whole run: every shape, every kernel in turn, and the session that comes of it."""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from fusedops import backends
from fusedops.bench.report import COLD_L2, GRAPH, versions
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
from fusedops.tune import work
from fusedops.tune.attempts import first_line
from fusedops.tune.begin import begin
from fusedops.tune.card import CardBench, card_may_be_lost
from fusedops.tune.command import command
from fusedops.tune.plan import Plan, problem_on
from fusedops.tune.pool import Pool
from fusedops.tune.profiler import NoProfiler, NsightCompute, Profiler
from fusedops.tune.record import Record, Watch, of
from fusedops.tune.target import TargetBench
from fusedops.tune.trial import BASELINE, REVERTED, Best, Session, Shape, Trial
from fusedops.tune.workbench import CardLost, Workbench

NOT_TIMED = "compiled for the card, not timed: by the kernel's own estimate"


class Tuning:
    """A plan under way: ``run`` it, and ask for the session at any time.

    ended: why it was cut short, in words; "" where it was not. searched: the kernels of which a
    search was begun.
    """

    def __init__(self, plan: Plan, watch: Watch, pool: Pool | None = None) -> None:
        """pool: one that outlives the run; None: its own."""
        self.ended = ""
        self.searched: set[str] = set()
        self.record = Record(watch)
        self._plan = plan
        self._watch = watch
        self._trials: list[Trial] = []
        self._best: list[Best] = []
        self._others: list[Best] = []
        self._end = None if plan.budget is None else time.monotonic() + plan.budget
        self._pool = pool or Pool(plan.jobs)
        self._owns_pool = pool is None
        self._profiler: Profiler = NsightCompute() if plan.ncu else NoProfiler()
        self._profiled_by = self._profiler.said

    def run(self) -> None:
        """Raises KeyboardInterrupt and CardLost, and nothing else: the rest is recorded."""
        try:
            for shape in self._plan.shapes:
                for kernels in self._by_operator():
                    with self.record.recorded(shape_name(shape)):
                        if self._plan.target is None:
                            self._on_card(shape, kernels)
                        else:
                            self._on_target(shape, kernels, self._plan.target)
        except KeyboardInterrupt:
            self.ended = "interrupted"
            raise
        except CardLost as lost:
            self.ended = f"the card answers no more, {lost}"
            raise
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
            skipped=dict(self.record.skipped),
            failed=dict(self.record.failed),
            profiled=self._profiler.said,
            ended=self.ended,
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
            with card_may_be_lost():
                done = make(shape, self._plan.dtype, self._plan.device)
        except torch.cuda.OutOfMemoryError as error:
            self.record.skip(shape_name(shape), first_line(error))
            return
        before = len(self._best)
        benches: dict[str, CardBench] = {}
        for kernel in kernels:
            with self.record.recorded(of(shape, kernel.name)):
                if self._is_able(shape, done.problem, kernel):
                    bench = CardBench(kernel, done, self._plan.device, self._pool)
                    benches[kernel.name] = bench
                    self._search(shape, done.problem, kernel, bench)
        finals = [(best, benches[best.trial.kernel]) for best in self._best[before:]]
        tuned = len(finals)
        if not backward and finals and not self._plan.exhaustive:
            with self.record.recorded(f"{shape_name(shape)}, what the registry takes today"):
                finals += self._today(shape, done, {kernel.name for kernel in kernels})
        if not finals:
            return
        with self.record.recorded(f"{shape_name(shape)}, the best of all timed together"):
            timed = self._together(shape, finals, done.calls)
            self._best[before:] = timed[:tuned]
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

    def _together(
        self, shape: Shape, finals: Sequence[tuple[Best, CardBench]], calls_each: int
    ) -> list[Best]:
        """Times of one run compare: those of all the kernels' best. One that fails has none."""
        calls = {}
        for place, (best, bench) in enumerate(finals):
            what = f"{of(shape, best.trial.kernel)} {best.trial.config}"
            with self.record.recorded(what), card_may_be_lost():
                calls[str(place)] = bench.call_of(best.trial.config)
        with card_may_be_lost():
            times = samples(calls, self._plan.device, rounds=self._plan.rounds, warmup=1)
        medians = {place: statistics.median(each) / calls_each for place, each in times.items()}
        return [
            replace(best, microseconds=medians.get(str(place)))
            for place, (best, _) in enumerate(finals)
        ]

    def _on_target(self, shape: Shape, kernels: Sequence[Kernel], card: Card) -> None:
        problem = problem_on(card, shape, self._plan.dtype, kernels[0])
        problem = replace(problem, allow_fp16_accumulation=self._plan.allow_fp16_accumulation)
        for kernel in kernels:
            with self.record.recorded(of(shape, kernel.name)):
                if self._is_able(shape, problem, kernel):
                    bench = TargetBench(kernel, problem, self._pool)
                    self._search(shape, problem, kernel, bench)

    def _is_able(self, shape: Shape, problem: Problem, kernel: Kernel) -> bool:
        missing = {} if self._plan.target is not None else backends.missing()
        reasons = reasons_against(kernel, problem, missing)
        if not reasons and kernel.tuned_over(problem).configs[0] is None:
            reasons = ("it has one configuration: there is nothing to tune",)
        if reasons:
            self.record.skip(of(shape, kernel.name), "; ".join(reasons))
        return not reasons

    def _search(self, shape: Shape, problem: Problem, kernel: Kernel, bench: Workbench) -> None:
        """Whatever ends it, its trials are kept, and the best of them."""
        self.searched.add(kernel.name)
        search, attempts = begin(
            self._plan,
            shape,
            problem,
            kernel,
            bench,
            watch=self._watch,
            profiler=self._profiler,
            profiled_by=self._profiled_by,
            out_of_time=self._is_out_of_time,
        )
        try:
            search.run()
        finally:
            self._pool.forget(kernel, problem)
            self._trials += attempts.trials.values()
            best = search.best()
            self._best += [] if best is None else [best]

    def _is_out_of_time(self) -> bool:
        if self._end is None or time.monotonic() <= self._end:
            return False
        self.ended = "the time is spent"
        return True
