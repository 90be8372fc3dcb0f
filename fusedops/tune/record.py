"""What a run did not do: left out for a reason, or gone wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from fusedops.bench.workload import shape_name
from fusedops.tune import attempts
from fusedops.tune.attempts import first_line
from fusedops.tune.trial import Shape
from fusedops.tune.workbench import CardLost


class Watch(attempts.Watch, Protocol):
    """Who wants to know what goes on."""

    def searching(self, subject: tuple[Shape, str, str], most: int, note: str) -> None: ...

    def skipped(self, what: str, why: str) -> None: ...


class Record:
    """skipped, failed: as of a Session."""

    def __init__(self, watch: Watch) -> None:
        self.skipped: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self._watch = watch

    def skip(self, what: str, why: str) -> None:
        self.skipped[what] = why
        self._watch.skipped(what, why)

    @contextmanager
    def recorded(self, what: str) -> Iterator[None]:
        """Whatever fails in here is written down, and the run goes on."""
        try:
            yield
        except CardLost:
            raise
        except Exception as error:  # a kernel's own code, a compiler, a card
            self.failed[what] = f"{type(error).__name__}: {first_line(error)}"
            self._watch.skipped(what, f"failed: {self.failed[what]}")


def of(shape: Shape, kernel: str) -> str:
    """What a search of a kernel is called."""
    return f"{shape_name(shape)} {kernel}"
