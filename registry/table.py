"""Measured choices: one JSON file per device, read by the selector, written by a command."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

from .kernel import Kernel
from .problem import FEW_ROWS, Problem

NEIGHBOURS = 4
REACH = math.log(2)
"""An unmeasured shape is spoken for by so many measured ones, the others at most REACH further away
than the nearest."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The median time of one kernel and configuration at one shape.

    ``dtype`` is the operands', or "tf32": float32 whose products may be taken in TF32.
    """

    m: int
    n: int
    k: int
    dtype: str
    kernel: str
    config: str
    microseconds: float

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.m, self.n, self.k

    def distance(self, problem: Problem) -> float:
        """Euclidean distance in (log m, log n, log k)."""
        return math.dist(
            [math.log(size) for size in self.shape],
            [math.log(max(size, 1)) for size in (problem.m, problem.n, problem.k)],
        )


@dataclass(frozen=True, slots=True)
class Prediction:
    """A measurement carried over to a problem by the kernel's own estimate."""

    kernel: Kernel
    config: Any
    microseconds: float
    source: Measurement


@dataclass(frozen=True, slots=True)
class Table:
    """The measurements of one device: for each shape, every configuration near the front.

    ``origin`` says how, when and with what they were made.
    """

    device: str
    capability: tuple[int, int]
    origin: str
    measurements: tuple[Measurement, ...]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Table:
        rows = tuple(Measurement(**row) for row in document["measurements"])
        major, minor = document["capability"]
        return cls(document["device"], (major, minor), document["origin"], rows)

    @property
    def how(self) -> str:
        """How its times were found: where nobody has had the card, ``origin`` begins "computed"."""
        return "computed" if self.origin.startswith("computed") else "measured"

    def document(self) -> dict[str, Any]:
        """What ``parse`` reads."""
        return asdict(self)

    def nearest(self, problem: Problem) -> list[Measurement]:
        """The rows of the shapes nearest to the problem in log space, nearest first.

        Those of its arithmetic; those of its own shape alone, if it was measured. Few rows of x and
        many are timed differently, so neither speaks for the other where both were measured.
        """
        rows = [row for row in self.measurements if row.dtype == problem.arithmetic]
        few = problem.m <= FEW_ROWS
        rows = [row for row in rows if (row.m <= FEW_ROWS) == few] or rows
        distances = {row.shape: row.distance(problem) for row in rows}
        shapes = sorted(distances, key=distances.__getitem__)[:NEIGHBOURS]
        if not shapes:
            return []
        closest = distances[shapes[0]]
        reach = closest + REACH if closest > 0 else 0.0
        near = [shape for shape in shapes if distances[shape] <= reach]
        return sorted(
            (row for row in rows if row.shape in near), key=lambda row: distances[row.shape]
        )

    def predict(self, problem: Problem, kernels: Sequence[Kernel]) -> list[Prediction]:
        """What these kernels would take for the problem, fastest first.

        A configuration's time at the nearest shape where it was measured, times what its own
        estimate says the difference between the shapes is worth.
        """
        configs = {
            (kernel.name, str(config)): (kernel, config)
            for kernel in kernels
            for config in kernel.configs(problem)
        }
        predictions = []
        for row in self.nearest(problem):
            if found := configs.pop((row.kernel, row.config), None):
                kernel, config = found
                then = kernel.estimate(problem.resized(*row.shape), config)
                factor = kernel.estimate(problem, config) / then
                predictions.append(Prediction(kernel, config, row.microseconds * factor, row))
        return sorted(predictions, key=lambda each: each.microseconds)


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
