"""What goes on, for whoever watches: a bar on a terminal, else a line for each trial."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from fusedops.bench.report import microseconds
from fusedops.bench.workload import shape_name
from fusedops.tune.trial import ADOPTED, COMPUTED, Shape, Trial


class Lines:
    """On no terminal, or without rich."""

    def __init__(self) -> None:
        self._most = 0
        self._count = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def searching(self, subject: tuple[Shape, str, str], most: int, note: str) -> None:
        self._most, self._count = most, 0
        self.say(f"{title(subject)}: at most {most} candidates")
        if note:
            self.say(f"  {note}")

    def skipped(self, what: str, why: str) -> None:
        self.say(f"{what}: skipped: {why}")

    def trying(self, trial: Trial, number: int, best: Trial | None) -> None:
        pass

    def tried(self, trial: Trial) -> None:
        self._count += 1
        self.say(f"  [{self._count}/{self._most}] {outcome(trial)}")

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class Bar(Lines):
    """On a terminal: what is being tried and the best so far; above it what was adopted."""

    def __init__(self, progress: Any) -> None:
        super().__init__()
        self._progress = progress
        self._task: Any = None
        self._best = ""

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._progress.stop()

    def searching(self, subject: tuple[Shape, str, str], most: int, note: str) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self.say(title(subject) + (f": {note}" if note else ""))
        self._best = ""
        self._task = self._progress.add_task("", total=most)

    def trying(self, trial: Trial, number: int, best: Trial | None) -> None:
        if best is not None:
            self._best = f"; best so far {short(best)}"
        reason = trial.reason.partition(":")[0]
        text = f"{trial.kernel} {trial.config} ({reason}){self._best}"
        self._progress.update(self._task, description=text)

    def tried(self, trial: Trial) -> None:
        self._progress.advance(self._task)
        if trial.verdict not in (COMPUTED, "reverted"):
            self.say(f"  {outcome(trial)}")

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)


def watcher() -> Lines:
    if not sys.stderr.isatty():
        return Lines()
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        return Lines()
    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}"))
    return Bar(Progress(*columns, console=Console(stderr=True)))


def title(subject: tuple[Shape, str, str]) -> str:
    shape, arithmetic, kernel = subject
    return f"{shape_name(shape)} {arithmetic} {kernel}"


def short(trial: Trial) -> str:
    time = "" if trial.microseconds is None else f" {microseconds(trial.microseconds)} us"
    return f"{trial.config}{time}"


def outcome(trial: Trial) -> str:
    """A line of the log."""
    mark = "*" if trial.verdict == ADOPTED else " "
    return f"{mark} {short(trial)}: {trial.verdict}: {trial.why} [{trial.stage}; {trial.reason}]"
