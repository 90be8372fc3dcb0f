"""A search from its journal and its starts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fusedops.registry import Kernel, Problem
from fusedops.tune.attempts import Attempts
from fusedops.tune.exhaustive import Exhaustive
from fusedops.tune.header import header, journal_path
from fusedops.tune.journal import Journal
from fusedops.tune.neighbours import Map
from fusedops.tune.plan import Plan
from fusedops.tune.profiler import Profiler
from fusedops.tune.record import Watch
from fusedops.tune.search import Search, most_trials
from fusedops.tune.starts import measured_starts, that_exist
from fusedops.tune.trial import Shape
from fusedops.tune.workbench import Workbench


def begin(
    plan: Plan,
    shape: Shape,
    problem: Problem,
    kernel: Kernel,
    bench: Workbench,
    *,
    watch: Watch,
    profiler: Profiler,
    profiled_by: str,
    out_of_time: Callable[[], bool],
) -> tuple[Search | Exhaustive, Attempts]:
    """A search to be run, and its trials. profiled_by: what the profiler was as the run began."""
    space = kernel.tuned_over(problem)
    subject = (shape, problem.arithmetic, kernel.name)
    now = [] if plan.exhaustive else measured_starts(kernel, problem)
    said = header(plan, problem, subject, space, profiled_by)
    journal = Journal(journal_path(plan, subject), said, now)
    starts = that_exist(kernel, problem, dict.fromkeys((*journal.starts, *now)))
    late = [name for name in starts if name not in journal.starts]
    everything = Map(space, starts)
    size = len(everything.configs)
    most = size if plan.exhaustive else most_trials(size)
    watch.searching(subject, most, journal.notice)
    attempts = Attempts(
        subject,
        everything.configs,
        bench,
        journal,
        most=most,
        out_of_time=out_of_time,
        watch=watch,
        estimate=partial(kernel.estimate, problem),
    )
    if plan.exhaustive:
        return Exhaustive(attempts, everything.configs, rounds=plan.rounds), attempts
    search = Search(
        kernel,
        problem,
        attempts,
        everything,
        starts=[name for name in starts if name not in late],
        late_starts=late,
        rounds=plan.rounds,
        profiler=profiler,
    )
    return search, attempts
