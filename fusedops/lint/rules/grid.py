"""A grid cannot be zero."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import DEPTH, Function, Scope, Source, statements

ROUNDED_UP = ("cdiv", "ceil", "ceildiv", "ceil_div", "div_up")


def check(source: Source) -> Findings:
    for launch in source.launches:
        for size, scope in sizes(source, launch.grid, launch.scope):
            reason = why_zero(source, size, scope)
            if reason:
                yield (
                    size if hasattr(size, "lineno") else launch.call,
                    f"{launch.name}'s grid: {reason}",
                )


def sizes(
    source: Source, grid: ast.expr, scope: Scope, depth: int = DEPTH
) -> Iterator[tuple[ast.expr, Scope]]:
    """The size of each dimension of a grid, and the scope its names are of."""
    if depth == 0:
        return
    if isinstance(grid, ast.Tuple | ast.List):
        yield from ((each, scope) for each in grid.elts)
    elif isinstance(grid, ast.Call) and (helper := source.called(grid)):
        for returned in _given_back(source, helper, scope):
            yield from sizes(source, returned, helper, depth - 1)
    elif isinstance(grid, ast.Constant | ast.BinOp | ast.Call):
        yield grid, scope
    elif isinstance(grid, ast.Lambda):
        yield from sizes(source, grid.body, grid, depth - 1)
    elif isinstance(grid, ast.IfExp):
        yield from sizes(source, grid.body, scope, depth - 1)
        yield from sizes(source, grid.orelse, scope, depth - 1)
    elif isinstance(grid, ast.Name):
        function = next((each for each in source.functions if each.name == grid.id), None)
        value = source.assigned(grid.id, scope)
        if value is not None:
            yield from sizes(source, value, scope, depth - 1)
        elif function is not None and function not in source.jitted.values():
            for returned in _given_back(source, function, function):
                yield from sizes(source, returned, function, depth - 1)


def _given_back(source: Source, helper: Function, caller: Scope) -> Iterator[ast.expr]:
    """What a function may return; nothing where its caller asserts what is left of a division."""
    body = caller.body if caller is not helper and not isinstance(caller, ast.Lambda) else []
    if not any(
        isinstance(node, ast.Assert) and "%" in ast.unparse(node) for node in statements(body)
    ):
        for node in source.within(helper):
            if isinstance(node, ast.Return) and node.value is not None:
                yield node.value


def why_zero(source: Source, size: ast.expr, scope: Scope, depth: int = DEPTH) -> str:
    """How a size can be zero although what it counts is there; empty where it cannot."""
    constant = source.constant(size, scope)
    if constant is not None:
        return "" if constant > 0 else f"{ast.unparse(size)} is {constant}"
    if isinstance(size, ast.Call):
        return _of_a_call(source, size, scope, depth)
    if isinstance(size, ast.BinOp):
        return _of_arithmetic(source, size, scope, depth)
    behind: list[ast.expr | None] = []
    if isinstance(size, ast.Name):
        behind = [source.assigned(size.id, scope)]
    elif isinstance(size, ast.IfExp):
        behind = [size.body, size.orelse]
    reasons = (why_zero(source, each, scope, depth - 1) for each in behind if each and depth)
    return next(filter(None, reasons), "")


def _of_a_call(source: Source, call: ast.Call, scope: Scope, depth: int) -> str:
    name = ast.unparse(call.func).rsplit(".", maxsplit=1)[-1]
    reasons = [why_zero(source, each, scope, depth - 1) for each in call.args]
    if name == "max":
        return reasons[0] if reasons and all(reasons) else ""
    if name == "min":
        return next(filter(None, reasons), "")
    if name in ("int", "floor", "round") and len(call.args) == 1:
        inner = call.args[0]
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Div):
            return _less_than_one(inner)
        return reasons[0]
    helper = source.called(call) if depth else None
    if helper is None:
        return ""
    returned = _given_back(source, helper, scope)
    return next(filter(None, (why_zero(source, each, helper, depth - 1) for each in returned)), "")


def _of_arithmetic(source: Source, size: ast.BinOp, scope: Scope, depth: int) -> str:
    if isinstance(size.op, ast.FloorDiv):
        exact = _rounded_up(source, size, scope) or _asserted(source, size, scope)
        return "" if exact else _less_than_one(size)
    if isinstance(size.op, ast.RShift):
        return _less_than_one(size)
    if isinstance(size.op, ast.Mod):
        return f"{ast.unparse(size)} is zero where nothing is left"
    left = why_zero(source, size.left, scope, depth - 1)
    right = why_zero(source, size.right, scope, depth - 1)
    if isinstance(size.op, ast.Mult):
        return left or right
    if isinstance(size.op, ast.Sub):
        less = source.constant(size.right, scope) or 0
        left = f"{ast.unparse(size)} is zero where there are {less} blocks or fewer"
        return left if less > 0 and _counts_blocks(size.left) else ""
    return left if right else ""


def _counts_blocks(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).rsplit(".", maxsplit=1)[-1] in ROUNDED_UP
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv)


def _less_than_one(size: ast.BinOp) -> str:
    divided, by = ast.unparse(size.left), ast.unparse(size.right)
    smaller = f"where {divided} is less than {by}"
    if isinstance(size.op, ast.RShift):
        smaller = f"where {divided} is small"
    return f"{ast.unparse(size)} is zero {smaller}: use triton.cdiv, or max(1, ...)"


def _rounded_up(source: Source, size: ast.BinOp, scope: Scope) -> bool:
    """Of ``(a + b - 1) // b``, ``-a // b`` within a minus, and products with such an addend."""
    divisor = ast.unparse(size.right)
    known = source.constant(size.right, scope)
    addends = list(_addends(size.left))
    rest = sum(source.constant(each, scope) or 0 for each in addends)
    if known is not None:
        return len(addends) > 1 and rest >= known - 1
    return len(addends) > 2 and divisor in map(ast.unparse, addends) and rest >= -1


def _addends(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield from _addends(node.left)
        minus = isinstance(node.op, ast.Sub)
        yield from ([ast.UnaryOp(ast.USub(), node.right)] if minus else list(_addends(node.right)))
    else:
        yield node


def _asserted(source: Source, size: ast.BinOp, scope: Scope) -> bool:
    """Whether the function asserts that the division leaves nothing."""
    wanted = f"{ast.unparse(size.left)} % {ast.unparse(size.right)} == 0"
    body = scope.body if not isinstance(scope, ast.Lambda) else []
    return any(
        isinstance(node, ast.Assert) and wanted in ast.unparse(node.test)
        for node in statements(body)
    )


RULE = Rule(
    "grid",
    "Grid size MUST be > 0: use triton.cdiv(N, BLOCK) or max(1, N // BLOCK)",
    "No size of a grid is zero where there is something to compute: a division that rounds down "
    "stands within `max(1, ...)`, or after an assertion that it leaves nothing.",
    check,
)
