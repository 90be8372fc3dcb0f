"""No break, continue or return inside loops."""

from __future__ import annotations

import ast

from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import Source, statements

EXITS = {ast.Break: "break", ast.Continue: "continue", ast.Return: "return"}


def check(source: Source) -> Findings:
    for function in dict.fromkeys(source.jitted.values()):
        for loop in statements(function.body):
            if isinstance(loop, ast.For | ast.While):
                for node in statements(loop.body):
                    if type(node) in EXITS:
                        word = EXITS[type(node)]
                        yield node, f"{word} inside a loop of {function.name}: use a mask"


RULE = Rule(
    "loop-exit",
    "No `continue`, `break`, `return` inside loops — use masking",
    "No loop of a kernel holds `break`, `continue` or `return`.",
    check,
)
