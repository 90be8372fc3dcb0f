"""Measured choices: one JSON file per device, read by the selector, written by a command."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from .kernel import Kernel
from .problem import FEW_ROWS, Problem

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

SCHEMA = 1
"""Of the files. Those without a number are of the first."""

MOST_OF_A_SIZE = 2**48
"""More than any memory holds, and few enough to be multiplied in 64 bits by what kernels do."""

NEIGHBOURS = 4
NEAR = 1.1
"""Times the fastest's time at a shape: how much a configuration may take to speak for its
neighbours, too."""
REACH = math.log(2)
"""An unmeasured shape is spoken for by so many measured ones, the others at most REACH further away
than the nearest. Each of 130 shapes left out in turn, bfloat16 on an NVIDIA H200 loses 3.6 % so
(benchmarks/left_out.py, 2026-11-22), with 2 neighbours 3.9 %, with 6 3.6 %; at half the REACH
4.3 %, at twice 3.7 %."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The median time of one kernel and configuration at one shape.

    ``dtype`` is the operands', or "tf32": float32 whose products may be taken in TF32. ``origin``
    says how, when and with what it was found; ``file`` is a user's table that it was read from, ""
    for the package's own.
    """

    m: int
    n: int
    k: int
    dtype: str
    kernel: str
    config: str
    microseconds: float
    origin: str = ""
    file: str = field(default="", compare=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.m, self.n, self.k

    @property
    def how(self) -> str:
        """How the time was found: where nobody has had the card, ``origin`` begins "computed".

        Of a user's table, with where it lies.
        """
        how = "computed" if self.origin.startswith("computed") else "measured"
        return f"{how} (your table, {self.file})" if self.file else how

    def complaint(self) -> str | None:
        """Why it cannot be a measurement, whatever a file says."""
        words = (self.dtype, self.kernel, self.config, self.origin)
        if not all(isinstance(word, str) for word in words):
            return "names are texts"
        if not all(type(size) is int and 1 <= size <= MOST_OF_A_SIZE for size in self.shape):
            return "sizes are whole and positive, and no memory holds more than 2^48"
        time = self.microseconds
        if not (type(time) in (int, float) and 0 < time <= sys.float_info.max):
            return "times are positive numbers"
        return None

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
    """The measurements of one device: for each shape, every configuration near the front."""

    device: str
    capability: tuple[int, int]
    measurements: tuple[Measurement, ...]

    @classmethod
    def read(cls, file: Traversable) -> Table:
        """Raises ValueError where the file holds no table."""
        try:
            return cls._parse(json.loads(file.read_text()))
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise ValueError(f"{file} is no table: {type(error).__name__}: {error}") from None

    @classmethod
    def _parse(cls, document: Any) -> Table:
        if not isinstance(document, dict):
            raise TypeError("it holds no names and values")
        if (schema := document.get("schema", 1)) != SCHEMA:
            raise ValueError(f"its schema is {schema!r}; this version reads {SCHEMA}")
        device = document["device"]
        major, minor = document["capability"]
        if not (isinstance(device, str) and type(major) is type(minor) is int):
            raise ValueError(f"no card is {device!r} of capability {major!r}.{minor!r}")
        origins = document["origins"]
        rows = tuple(
            Measurement(**{**row, "origin": origins[row["origin"]]})
            for row in document["measurements"]
        )
        for row in rows:
            if complaint := row.complaint():
                raise ValueError(f"{complaint}, not as in {row}")
        return cls(device, (major, minor), rows)

    @property
    def origins(self) -> tuple[str, ...]:
        """Where its measurements come from, each once."""
        return tuple(dict.fromkeys(row.origin for row in self.measurements))

    def document(self) -> dict[str, Any]:
        """What ``read`` finds: a row's origin is its place in the list of them."""
        places = {origin: place for place, origin in enumerate(self.origins)}
        rows = [{**asdict(row), "origin": places[row.origin]} for row in self.measurements]
        for row in rows:
            del row["file"]
        return {
            "schema": SCHEMA,
            "device": self.device,
            "capability": list(self.capability),
            "origins": list(places),
            "measurements": rows,
        }

    def as_text(self) -> str:
        """The file: a row a line."""
        document = self.document()
        rows = ",\n  ".join(json.dumps(row) for row in document.pop("measurements"))
        head = json.dumps(document, indent=1).removesuffix("\n}")
        return f'{head},\n "measurements": [\n  {rows}\n ]\n}}\n'

    def with_rows(
        self,
        rows: Sequence[Measurement],
        key: Callable[[Measurement], object] = lambda row: (row.dtype, row.shape),
    ) -> Table:
        """These rows, and those of its own whose key none of them has."""
        replaced = {key(row) for row in rows}
        kept = (row for row in self.measurements if key(row) not in replaced)
        return replace(self, measurements=(*kept, *rows))

    def nearest(self, problem: Problem, kernels: Container[str]) -> list[Measurement]:
        """The rows of the shapes nearest to the problem in log space, nearest first.

        Those of its arithmetic and of these kernels; those of its own shape alone, if it was
        measured. Few rows of x and many are timed differently, so neither speaks for the other
        where both were measured.
        """
        rows = [
            row
            for row in self.measurements
            if row.dtype == problem.arithmetic and row.kernel in kernels
        ]
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
        estimate says the difference between the shapes is worth. What was not NEAR the fastest
        there comes behind all that was: no estimate is to bring it to the front.
        """
        able = {kernel.name: kernel for kernel in kernels}
        configs = {
            (kernel.name, str(config)): config
            for kernel in kernels
            for config in kernel.configs(problem)
        }
        predictions = []
        seen = set()
        rows = self.nearest(problem, able)
        fastest = {row.shape: row.microseconds for row in sorted(rows, key=_slowest_first)}
        for row in rows:
            named = row.kernel, row.config
            if named in seen:
                continue
            seen.add(named)
            kernel = able[row.kernel]
            known = named in configs
            config = configs[named] if known else kernel.config_named(problem, row.config)
            if known or config is not None:
                then = kernel.estimate(problem.resized(*row.shape), config)
                factor = kernel.estimate(problem, config) / then
                predictions.append(Prediction(kernel, config, row.microseconds * factor, row))
        return sorted(
            predictions,
            key=lambda each: (
                each.source.microseconds > NEAR * fastest[each.source.shape],
                each.microseconds,
            ),
        )


def _slowest_first(row: Measurement) -> float:
    return -row.microseconds


def tables_in(folder: Traversable) -> Mapping[str, Table]:
    """The tables in a folder, by device name. A file that is none is warned of and left out."""
    tables = []
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.name.endswith(".json"):
            try:
                tables.append(Table.read(file))
            except (ValueError, OSError) as error:
                warnings.warn(f"fusedops goes on without a table: {error}", stacklevel=2)
    return {table.device: table for table in tables}


@cache
def shipped_tables() -> Mapping[str, Table]:
    """The tables in the package, by device name."""
    return tables_in(resources.files(__package__) / "tables")


def table_for(problem: Problem, tables: Mapping[str, Table]) -> Table | None:
    """The table of the problem's card, or of another of its capability, or None."""
    named = tables.get(problem.device_name)
    if named is not None:
        return named
    return next((t for t in tables.values() if t.capability == problem.capability), None)
