"""No indexing of tensors by loop variables."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import Source, statements


def check(source: Source) -> Findings:
    for function in dict.fromkeys(source.jitted.values()):
        for loop in statements(function.body):
            if isinstance(loop, ast.For | ast.While):
                yield from _of_a_loop(source, loop, source.tensors(function))


def _of_a_loop(source: Source, loop: ast.For | ast.While, tensors: set[str]) -> Findings:
    unrolled = isinstance(loop, ast.For) and source.language(loop.iter) == "static_range"
    changing = _derived(loop, _variables(loop))
    for node in ast.walk(ast.Module(loop.body, [])):
        if not isinstance(node, ast.Subscript):
            continue
        used = _names(node.slice) & changing
        # A compile-time index of a tuple or a shape is right; a tensor has none.
        tensor = isinstance(node.slice, ast.Tuple | ast.Slice)
        tensor |= isinstance(node.value, ast.Name) and node.value.id in tensors
        if used and (tensor or not unrolled):
            name = sorted(used)[0]
            yield node, f"{ast.unparse(node)} indexes by {name}, which changes in the loop"


def _variables(loop: ast.For | ast.While) -> set[str]:
    """What a loop counts by."""
    if isinstance(loop, ast.For):
        return _names(loop.target)
    return _names(loop.test) & {name for name, _ in _assignments(loop)}


def _derived(loop: ast.For | ast.While, names: set[str]) -> set[str]:
    """The names, and what the loop computes from them alone."""
    known = set(names)
    for name, value in _assignments(loop):
        if value is not None and _names(value) & known and not _calls(value):
            known.add(name)
    return known


def _assignments(loop: ast.For | ast.While) -> Iterator[tuple[str, ast.expr | None]]:
    for node in statements(loop.body):
        if isinstance(node, ast.Assign):
            yield from (
                (target.id, node.value) for target in node.targets if isinstance(target, ast.Name)
            )
        elif isinstance(node, ast.AugAssign | ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.value


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _calls(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Call) for each in ast.walk(node))


RULE = Rule(
    "loop-index",
    "No tensor indexing with loop vars: `x[:, i]` is INVALID",
    "No subscript in a loop of a kernel uses what the loop counts by, or what is computed from it; "
    "a tuple in a `static_range` may be indexed so.",
    check,
)
