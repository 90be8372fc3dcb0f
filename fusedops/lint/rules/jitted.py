"""Every kernel has @triton.jit."""

from __future__ import annotations

import ast

from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import Source

ON_THE_HOST = (
    *("constexpr", "constexpr_function", "cdiv", "dtype", "tensor", "tuple"),
    *("block_type", "pointer_type", "str_to_ty"),
)
"""What the language has for Python, too."""


def check(source: Source) -> Findings:
    jitted = set(source.jitted.values())
    plain = {
        each.name: each
        for each in source.functions
        if each not in jitted and source.undecorated(each)
    }
    for function in plain.values():
        yield from _device_functions(source, function)
    for launch in source.launches:
        if launch.name in plain:
            yield launch.call, f"{launch.name} is launched with a grid, and has no @triton.jit"
    for function, call in source.jitted_calls():
        called = call.func.id if isinstance(call.func, ast.Name) else ""
        if called in plain and source.scope(plain[called]) is source.tree:
            yield call, f"{called} is called in {function.name}, a kernel, and has no @triton.jit"


def _device_functions(source: Source, function: ast.FunctionDef) -> Findings:
    for node in source.within(function):
        name = source.language(node) if isinstance(node, ast.Call) else ""
        lower = name[:1].islower() and name not in ON_THE_HOST
        if lower and "Layout" not in name:
            yield function, f"{function.name} calls {name} of Triton, and has no @triton.jit"
            return


RULE = Rule(
    "jit",
    "EVERY kernel function MUST have @triton.jit decorator",
    "What is launched with a grid, what calls functions of Triton's language, and what a kernel "
    "calls has `@triton.jit` (or Gluon's).",
    check,
)
