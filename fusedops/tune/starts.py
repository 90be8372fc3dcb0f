"""Where a search starts: what the tables say is a kernel's fastest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fusedops.registry import BackwardProblem, Kernel, Problem
from fusedops.tables import table_for
from fusedops.tune.named import named


def measured_starts(kernel: Kernel, problem: Problem) -> list[str]:
    """Its fastest configuration, measured here or near."""
    table = None if isinstance(problem, BackwardProblem) else table_for(problem)
    predicted = [] if table is None else table.predict(problem, [kernel])
    return [str(each.config) for each in predicted[:1]]


def that_exist(kernel: Kernel, problem: Problem, names: Iterable[str]) -> Mapping[str, Any]:
    """Those of these configurations that are valid, by name: some may lie outside the space."""
    found = {}
    for name in names:
        try:
            found[name] = named(kernel, problem, name)
        except LookupError:
            continue
    return found
