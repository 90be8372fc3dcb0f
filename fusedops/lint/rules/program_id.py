"""The axis of a program's index is 0, 1 or 2."""

from __future__ import annotations

from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import Source

AXES = (0, 1, 2)


def check(source: Source) -> Findings:
    for _, call in source.jitted_calls():
        name = source.language(call)
        if name not in ("program_id", "num_programs"):
            continue
        named = next((each.value for each in call.keywords if each.arg == "axis"), None)
        axis = source.constant(call.args[0] if call.args else named, source.scope(call))
        if axis is not None and axis not in AXES:
            yield call, f"{name}({axis}): a grid has axes 0, 1 and 2"


RULE = Rule(
    "program-id",
    "tl.program_id(axis) only supports axis = 0, 1, 2",
    "`program_id` and `num_programs` are asked for axis 0, 1 or 2.",
    check,
)
