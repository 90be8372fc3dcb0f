"""Nsight Compute: one candidate under ``ncu``, its report read with the ncu-report package."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from fusedops.bench.workload import Shape
from fusedops.tune import one_launch
from fusedops.tune.counters import ASKED_BY_NAME, SECTIONS, Action, figures_of

PACKAGE = "ncu_report"
MOST_SECONDS = 300
"""Compiling included; a kernel is run some forty times, each after its operands are restored."""

INSTALLATIONS = ("/opt/nvidia/nsight-compute/*", "/usr/local/cuda*/nsight-compute*")
FORBIDDEN = "ERR_NVGPUCTRPERM"


class Absent(Exception):
    """There are no figures, of any candidate, and why, in words."""


class Failed(Absent):
    """There are none of this candidate."""


def profile(shape: Shape, dtype: str, kernel: str, config: str) -> dict[str, float | str]:
    """The figures of one launch (``counters.METRICS``), with a cold L2 and the card's own clocks.

    shape: (m, n, k); dtype: as in a table; config: the configuration's name. Raises Absent, and
    Failed where the next candidate may fare better.
    """
    program, package = find_program(), find_package()
    words = one_launch.command(shape, dtype, kernel, config)
    with tempfile.TemporaryDirectory(prefix="fusedops-ncu-") as folder:
        report = Path(folder) / "one.ncu-rep"
        said = _run(program, report, words)
        if not report.exists():
            raise (Absent if FORBIDDEN in said else Failed)(why_no_report(said))
        return read(report, package)


def described() -> str:
    """Which Nsight Compute it is, for a report. Raises Absent."""
    program, package = find_program(), find_package()
    found = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    lines = found.stdout.strip().splitlines() or ["unknown version"]
    return f"Nsight Compute ({lines[-1]}), read with {package.__file__}"


def find_program() -> str:
    """``ncu``, on the path or where its installers put it. Raises Absent."""
    found = shutil.which("ncu") or next(_installed("ncu"), None)
    if found is None:
        raise Absent("Nsight Compute's ncu is not installed, or not on the path")
    return str(found)


@cache
def find_package() -> Any:
    """The ncu-report package: as installed, or as Nsight Compute carries it. Raises Absent."""
    with suppress(ImportError):
        return importlib.import_module(PACKAGE)
    for folder in _carried():
        sys.path.append(str(folder))
        try:
            return importlib.import_module(PACKAGE)
        except ImportError:
            sys.path.remove(str(folder))
    raise Absent("the ncu-report package is missing: pip install ncu-report, or fusedops[ncu]")


def _installed(name: str) -> Iterator[Path]:
    """Of every installation, the newest first."""
    for pattern in INSTALLATIONS:
        root = Path(pattern[0])
        yield from sorted(root.glob(f"{pattern[1:]}/{name}"), reverse=True)


def _carried() -> Iterator[Path]:
    program = shutil.which("ncu")
    beside = [Path(program).resolve().parent / "extras" / "python"] if program else []
    yield from (each for each in (*beside, *_installed("extras/python")) if each.is_dir())


def _run(program: str, report: Path, words: list[str]) -> str:
    """Everything that ncu and the program under it say."""
    sections = [word for each in SECTIONS for word in ("--section", each)]
    command = [
        *(program, "--export", str(report), "--profile-from-start", "off"),
        *("--clock-control", "none"),  # the card's clocks are its owner's
        *sections,
        *("--metrics", ",".join(ASKED_BY_NAME)),
        *(sys.executable, "-m", one_launch.__name__, *words),
    ]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"ncu took longer than {MOST_SECONDS} seconds") from None
    except OSError as error:
        raise Absent(f"ncu cannot be started: {error}") from None
    return done.stdout


def why_no_report(said: str) -> str:
    """What ncu and the program under it say went wrong, as one sentence."""
    if FORBIDDEN in said:
        return (
            f"the driver keeps the card's counters from this user ({FORBIDDEN}): an administrator "
            "may profile, or load the driver with NVreg_RestrictProfilingToAdminUsers=0"
        )
    errors = re.findall(r"^==ERROR== (.+)$", said, re.MULTILINE)
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("==")]
    told = [*errors[:1], *lines[-1:]]
    return f"ncu made no report: {'; '.join(told) or 'it said nothing'}"


def read(report: Path, package: Any) -> dict[str, float | str]:
    """The figures of the kernel in the report; of several, the longest. Raises Absent."""
    try:
        context = package.load_report(str(report))
    except Exception as error:  # a package older than the program that wrote it, for instance
        raise Absent(f"{report.name} cannot be read: {type(error).__name__}: {error}") from None
    found = [figures_of(action) for action in _actions(context)]
    if not found:
        raise Failed("ncu saw no kernel")
    return max(found, key=lambda figures: float(figures.get("nanoseconds", 0.0)))


def _actions(context: Any) -> Iterator[Action]:
    for place in range(context.num_ranges()):
        within = context.range_by_idx(place)
        for number in range(within.num_actions()):
            yield within.action_by_idx(number)
