"""A kernel's configuration by its name."""

from __future__ import annotations

from typing import Any

from fusedops.registry import Kernel, Problem


def named(kernel: Kernel, problem: Problem, name: str) -> Any:
    """From its own list, the space it is tuned over, or what a table may name besides.

    Raises LookupError where there is none.
    """
    for each in (*kernel.configs(problem), *kernel.tuned_over(problem).configs):
        if str(each) == name:
            return each
    found = kernel.config_named(problem, name)
    if found is None:
        raise LookupError(f"{kernel.name} has no configuration {name!r} for {problem}")
    return found
