"""A rule as a value."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fusedops.lint.breach import Breach
from fusedops.lint.source import Source

Findings = Iterator[tuple[ast.AST, str]]
"""Where the rule is broken, and how."""


@dataclass(frozen=True)
class Rule:
    """name: as breaches and ``allow`` comments have it. source: the sentence that it comes from.

    asks: what the linter asks of a file, in a sentence.
    """

    name: str
    source: str
    asks: str
    check: Callable[[Source], Findings]

    def breaches(self, source: Source) -> set[Breach]:
        return {
            Breach(str(source.path), getattr(node, "lineno", 1), self.name, message)
            for node, message in self.check(source)
        }
