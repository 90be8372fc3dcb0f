"""The figures with what they need to be reproduced: as JSON, and as a table of one row a shape."""

from __future__ import annotations

import json
import platform
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fusedops import native
from fusedops.bench.candidates import AUTO, kernel_of
from fusedops.bench.workload import Shape, shape_name
from fusedops.files import write_whole

COLD_L2, GRAPH, IN_TURN = "cold L2", "CUDA graphs, cold weights", "calls in turn"


@dataclass(frozen=True)
class Row:
    """One shape: median microseconds by name, and the floor, where the card's is known."""

    shape: Shape
    floor: float | None
    chosen: str
    microseconds: Mapping[str, float]
    error_over_bound: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    def best(self, kernel: str) -> float | None:
        """The time of the kernel's fastest configuration, or of the peer of that name."""
        times = [time for name, time in self.microseconds.items() if kernel_of(name) == kernel]
        return min(times, default=None)

    def ratio(self, name: str, over: str = AUTO) -> float | None:
        """How many times as long as ``over`` it takes."""
        first, second = self.best(name), self.best(over)
        return first / second if first and second else None

    @property
    def of_the_floor(self) -> float | None:
        """The floor as a fraction of what the operator takes."""
        time = self.best(AUTO)
        return self.floor / time if self.floor and time else None


@dataclass(frozen=True)
class Report:
    """What ``python -m fusedops bench --json`` writes."""

    date: str
    device: str
    versions: Mapping[str, str | None]
    threads: int
    command: str
    dtype: str
    precision: str
    method: str
    rounds: int
    floor_from: str
    absent: Mapping[str, str]
    rows: Sequence[Row]
    host_microseconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Report:
        document = json.loads(path.read_text())
        rows = [Row(**{**row, "shape": tuple(row["shape"])}) for row in document.pop("rows")]
        return cls(rows=rows, **document)

    def write(self, path: Path) -> None:
        write_whole(path, json.dumps(_rounded(asdict(self)), indent=1) + "\n")

    @property
    def arithmetic(self) -> str:
        """The dtype, and what PyTorch's switches allow beyond it."""
        return self.dtype if self.precision == "ieee" else f"{self.dtype}, {self.precision} allowed"

    def names(self) -> list[str]:
        """Every peer, the operator, and every kernel that has a time, in the order they came."""
        names = (name for row in self.rows for name in row.microseconds)
        return list(dict.fromkeys(map(kernel_of, names)))


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    for package in ("fusedops", "triton", "quack-kernels"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def cpu_name() -> str:
    """The model, and the instruction set of the C++ kernel, where it is built."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    return name if native.why_no_cpu() else f"{name} ({torch.ops.fusedops_cpu.isa()})"


def command() -> str:
    """This command as another would type it: folders, and the rows' shapes, left out."""
    words: list[str] = []
    skipping = False
    for word in sys.argv[1:]:
        skipping = skipping and not word.startswith("--")
        if not skipping:
            words.append(_without_folder(word))
        if word == "--shapes":
            words.append("...")
            skipping = True
    return "python -m fusedops " + " ".join(words)


def _without_folder(word: str) -> str:
    if not word.startswith("--"):
        return Path(word).name
    option, equals, value = word.partition("=")
    return f"{option}{equals}{Path(value).name}"


class Columns:
    """The table as it is printed while the shapes go by: kernels under letters, named above it."""

    def __init__(self, peers: Sequence[str], kernels: Sequence[str]) -> None:
        self._peers = peers
        self._letters = dict(zip(kernels, string.ascii_uppercase, strict=False))
        self._titles = ["M x N x K", "floor", *peers, AUTO, *self._letters.values(), "|"]
        self._titles += [*(f"{peer}/auto" for peer in peers), "% floor"]

    def header(self) -> str:
        legend = [f"  {letter} {kernel}" for kernel, letter in self._letters.items()]
        return "\n".join([*legend, self._line(self._titles)])

    def row(self, row: Row) -> str:
        times = [row.floor, *(row.best(name) for name in (*self._peers, AUTO, *self._letters))]
        cells = [shape_name(row.shape), *map(microseconds, times), "|"]
        cells += [_number(row.ratio(peer), ".2f") for peer in self._peers]
        share = row.of_the_floor
        return self._line([*cells, _number(None if share is None else 100 * share, ".0f")])

    def _line(self, cells: Sequence[str]) -> str:
        first, *others = cells
        aligned = (
            f"{cell:>{max(len(title) + 2, 2 if title == '|' else 8)}}"
            for cell, title in zip(others, self._titles[1:], strict=True)
        )
        return f"{first:<18}" + "".join(aligned)


def microseconds(time: float | None) -> str:
    """Three or more digits."""
    if time is None:
        return "-"
    return f"{time:.0f}" if time >= 100 else f"{time:.1f}" if time >= 10 else f"{time:.2f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _rounded(value: Any) -> Any:
    """Figures to the nanosecond."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value
