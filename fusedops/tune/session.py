"""A whole run: every shape, every kernel in turn, and the session that comes of it."""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch

from fusedops import backends, native, triton_kernels
from fusedops.bench.report import COLD_L2, GRAPH, command, versions
from fusedops.bench.workload import shape_name
from fusedops.plans import device_facts, fp32_precision
from fusedops.registry import (
    FEW_ROWS,
    BackwardProblem,
    Card,
    Kernel,
    Problem,
    backward_problem,
    reasons_against,
)
from fusedops.tables import table_for
from fusedops.timing import samples
from fusedops.tune import attempts, work
from fusedops.tune.attempts import Attempts
from fusedops.tune.card import CardBench, card_may_be_lost
from fusedops.tune.exhaustive import Exhaustive
from fusedops.tune.journal import Journal, digest
from fusedops.tune.neighbours import Map
from fusedops.tune.pool import Pool
from fusedops.tune.profiler import NoProfiler, NsightCompute, Profiler
from fusedops.tune.search import Search, most_trials
from fusedops.tune.target import TargetBench
from fusedops.tune.trial import Best, Session, Shape, Trial
from fusedops.tune.workbench import ROUNDS, Workbench

NOT_TIMED = "compiled for the card, not timed: by the kernel's own estimate"


class Watch(attempts.Watch, Protocol):
    """Who wants to know what goes on."""

    def searching(self, subject: tuple[Shape, str, str], most: int, note: str) -> None: ...

    def skipped(self, what: str, why: str) -> None: ...


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


class Tuning:
    """A plan under way: ``run`` it, and ask for the session at any time."""

    def __init__(self, plan: Plan, watch: Watch, pool: Pool | None = None) -> None:
        """pool: one that outlives the run; None: its own."""
        self._plan = plan
        self._watch = watch
        self._trials: list[Trial] = []
        self._best: list[Best] = []
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
        done = make(shape, self._plan.dtype, self._plan.device)
        finals: list[tuple[int, CardBench]] = []
        for kernel in self._able(shape, done.problem, kernels):
            bench = CardBench(kernel, done, self._plan.device, self._pool)
            best = self._search(shape, done.problem, kernel, bench)
            if best is not None:
                finals.append((len(self._best), bench))
                self._best.append(best)
        self._final(finals, done.calls)

    def _final(self, finals: Sequence[tuple[int, CardBench]], calls_each: int) -> None:
        """Times of one run compare: those of all the kernels' best, together."""
        with card_may_be_lost():
            calls = {}
            for place, bench in finals:
                calls[str(place)] = bench.call_of(self._best[place].trial.config)
            times = samples(calls, self._plan.device, rounds=self._plan.rounds, warmup=1)
        for place, _ in finals:
            each = sorted(times[str(place)])
            median = each[len(each) // 2] / calls_each
            self._best[place] = replace(self._best[place], microseconds=median)

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
            what = f"{shape_name(shape)} {kernel.name}"
            self._skipped[what] = reasons[0]
            self._watch.skipped(what, reasons[0])

    def _search(
        self, shape: Shape, problem: Problem, kernel: Kernel, bench: Workbench
    ) -> Best | None:
        plan = self._plan
        space = Map(kernel.tuned_over(problem))
        size = len(space.configs)
        subject = (shape, problem.arithmetic, kernel.name)
        starts = [] if plan.exhaustive else measured_starts(kernel, problem)
        journal = Journal(
            self._journal_path(subject), self._header(problem, subject, space, starts)
        )
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

    def _journal_path(self, subject: tuple[Shape, str, str]) -> Path | None:
        if self._plan.folder is None:
            return None
        shape, arithmetic, kernel = subject
        of = f"{self._plan.architecture}_" if self._plan.architecture else ""
        whole = "_exhaustive" if self._plan.exhaustive else ""
        name = f"{of}{shape_name(shape)}_{arithmetic}_{kernel}{whole}.jsonl"
        return self._plan.folder / "journal" / name

    def _header(
        self,
        problem: Problem,
        subject: tuple[Shape, str, str],
        space: Map,
        starts: Sequence[str],
    ) -> Mapping[str, Any]:
        shape, arithmetic, kernel = subject
        return {
            **{"shape": shape, "dtype": arithmetic, "kernel": kernel, "problem": str(problem)},
            "multiprocessors": problem.multiprocessors,
            "versions": versions(),
            "code": code_digest(),
            "space": digest(space.configs),
            "starts": list(starts),
            "rounds": self._plan.rounds,
            "profiler": self._profiled_by,
        }


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


def measured_starts(kernel: Kernel, problem: Problem) -> list[str]:
    """What the tables say is this kernel's fastest, measured here or near."""
    table = None if isinstance(problem, BackwardProblem) else table_for(problem)
    predicted = [] if table is None else table.predict(problem, [kernel])
    return [str(each.config) for each in predicted[:1]]


@cache
def code_digest() -> str:
    """Of the kernels' sources and of the library of compiled ones: others take other times."""
    found = hashlib.sha256()
    for path in sorted(Path(triton_kernels.__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    for path in sorted(native.LIBRARIES.glob("libfusedops_kernels.*")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
