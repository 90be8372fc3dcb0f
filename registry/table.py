"""Measured choices: one JSON file per device, read by the selector, written by a command."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

from .problem import Problem, dtype_name


@dataclass(frozen=True, slots=True)
class Measurement:
    """The fastest kernel and configuration found for one shape, and its median time."""

    m: int
    n: int
    k: int
    dtype: str
    kernel: str
    config: str
    microseconds: float

    def distance(self, problem: Problem) -> float:
        """Euclidean distance in (log m, log n, log k)."""
        return math.dist(
            (math.log(self.m), math.log(self.n), math.log(self.k)),
            tuple(math.log(max(size, 1)) for size in (problem.m, problem.n, problem.k)),
        )


@dataclass(frozen=True, slots=True)
class Table:
    """The measurements of one device; ``origin`` says how, when and with what they were made."""

    device: str
    capability: tuple[int, int]
    origin: str
    measurements: tuple[Measurement, ...]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Table:
        rows = tuple(Measurement(**row) for row in document["measurements"])
        major, minor = document["capability"]
        return cls(document["device"], (major, minor), document["origin"], rows)

    def document(self) -> dict[str, Any]:
        """What ``parse`` reads."""
        return asdict(self)

    def nearest(self, problem: Problem) -> Measurement | None:
        """The measurement of the same dtype nearest to the problem in log space, if any."""
        same = [row for row in self.measurements if row.dtype == dtype_name(problem.dtype)]
        return min(same, key=lambda row: row.distance(problem), default=None)


@cache
def shipped_tables() -> Mapping[str, Table]:
    """The tables in the package, by device name."""
    folder = resources.files(__package__) / "tables"
    entries = folder.iterdir() if folder.is_dir() else ()
    files = [entry for entry in entries if entry.name.endswith(".json")]
    tables = [Table.parse(json.loads(entry.read_text())) for entry in files]
    return {table.device: table for table in tables}


def table_for(problem: Problem) -> Table | None:
    """The shipped table of the problem's device, or of another of its capability, or None."""
    tables = shipped_tables()
    named = tables.get(problem.device_name)
    if named is not None:
        return named
    return next((t for t in tables.values() if t.capability == problem.capability), None)
