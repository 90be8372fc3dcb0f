"""Where a search's journal lies, and what has to be the same for it to go on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fusedops import native, triton_kernels
from fusedops.bench.report import versions
from fusedops.bench.workload import shape_name
from fusedops.registry import Problem, Space
from fusedops.tune.journal import digest
from fusedops.tune.plan import Plan
from fusedops.tune.trial import Shape

Subject = tuple[Shape, str, str]


def journal_path(plan: Plan, subject: Subject) -> Path | None:
    """None where the plan keeps nothing."""
    if plan.folder is None:
        return None
    shape, arithmetic, kernel = subject
    of = f"{plan.architecture}_" if plan.architecture else ""
    whole = "_exhaustive" if plan.exhaustive else ""
    name = f"{of}{shape_name(shape)}_{arithmetic}_{kernel}{whole}.jsonl"
    return plan.folder / "journal" / name


def header(
    plan: Plan,
    problem: Problem,
    subject: Subject,
    space: Space,
    profiler: str,
) -> Mapping[str, Any]:
    """All that decides what is tried, and what comes of it."""
    shape, arithmetic, kernel = subject
    return {
        **{"shape": shape, "dtype": arithmetic, "kernel": kernel, "problem": str(problem)},
        "multiprocessors": problem.multiprocessors,
        "versions": versions(),
        "code": code_digest(),
        "space": digest(space.configs),
        "rounds": plan.rounds,
        "profiler": profiler,
    }


@cache
def code_digest() -> str:
    """Of the kernels' sources and of the library of compiled ones: others take other times."""
    found = hashlib.sha256()
    for path in sorted(Path(triton_kernels.__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    for path in sorted(native.LIBRARIES.glob("libfusedops_kernels.*")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
