"""What an expression in host code may be: a default, or each turn's item of a loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from fusedops.lint.source import Source, assigns, parameters

COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp


def choices(source: Source, value: ast.expr | None) -> Iterator[ast.expr]:
    """The expressions that a value may be, where the file lists them; else itself."""
    if isinstance(value, ast.IfExp):
        yield from choices(source, value.body)
        yield from choices(source, value.orelse)
    elif isinstance(value, ast.Name):
        yield from _of_a_name(source, value) or [value]
    elif value is not None:
        yield value


def _of_a_name(source: Source, name: ast.Name) -> list[ast.expr]:
    """Items of the innermost loop or comprehension that binds it, or a parameter's default."""
    for node in source.above(name):
        if isinstance(node, COMPREHENSIONS):
            rounds: Sequence[ast.comprehension | ast.For] = node.generators
        else:
            rounds = [node] if isinstance(node, ast.For) else []
        for each in rounds:
            if name.id in {part.id for part in ast.walk(each.target) if isinstance(part, ast.Name)}:
                return list(_items(source, each.target, each.iter, name.id))
        if isinstance(node, ast.FunctionDef):
            kept = name.id in parameters(node) and not assigns(node, name.id)
            return [default for who, default in defaults(node) if kept and who.arg == name.id]
    return []


def _items(source: Source, target: ast.expr, values: ast.expr, name: str) -> Iterator[ast.expr]:
    """What a target's name is bound to, of values that are written out."""
    if isinstance(values, ast.Name):
        listed = source.assigned(values.id, source.scope(values))
        if listed is not None and not isinstance(listed, ast.Name):
            yield from _items(source, target, listed, name)
    elif isinstance(values, ast.Call) and ast.unparse(values.func) in (
        "product",
        "itertools.product",
    ):
        if isinstance(target, ast.Tuple) and len(target.elts) == len(values.args):
            for part, factor in zip(target.elts, values.args, strict=True):
                yield from _items(source, part, factor, name)
    elif isinstance(values, ast.Tuple | ast.List | ast.Set):
        for each in values.elts:
            yield from _bound(target, each, name)


def _bound(target: ast.expr, value: ast.expr, name: str) -> Iterator[ast.expr]:
    if isinstance(target, ast.Name) and target.id == name:
        yield value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple | ast.List):
        for part, inner in zip(target.elts, value.elts, strict=False):
            yield from _bound(part, inner, name)


def defaults(function: ast.FunctionDef) -> Iterator[tuple[ast.arg, ast.expr]]:
    """The parameters that have one."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    late = arguments[len(arguments) - len(function.args.defaults) :]
    yield from zip(late, function.args.defaults, strict=True)
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if default is not None:
            yield argument, default
