"""What folding leaves behind: results nobody reads, and parameters nobody uses."""

from __future__ import annotations

import ast

EFFECTS = ("store", "atomic", "inline_asm", "barrier", "gdc")
"""What a call's name holds that is made for what it does, not for what it returns."""


def tidy(function: ast.FunctionDef) -> None:
    """Drop dead assignments, return a value without naming it, drop unused parameters."""
    while _drop_dead_assignments(function):
        pass
    _return_directly(function)
    used = names_read(function.body)
    function.args.args = [each for each in function.args.args if each.arg in used]


def names_read(statements: list[ast.stmt]) -> set[str]:
    nodes = (node for statement in statements for node in ast.walk(statement))
    read = set()
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            read.add(node.id)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            read.add(node.target.id)
    return read


def without_docstring(function: ast.FunctionDef) -> list[ast.stmt]:
    return function.body[1:] if ast.get_docstring(function) is not None else function.body


def _drop_dead_assignments(function: ast.FunctionDef) -> bool:
    read = names_read(function.body)
    dropped = False

    class Drop(ast.NodeTransformer):
        def visit_Assign(self, node: ast.Assign) -> ast.stmt | None:
            nonlocal dropped
            names = {
                each.id
                for target in node.targets
                for each in ast.walk(target)
                if isinstance(each, ast.Name)
            }
            if names & read or _has_effects(node.value):
                return node
            dropped = True
            return None

    Drop().visit(function)
    return dropped


def _has_effects(value: ast.expr) -> bool:
    called = (ast.unparse(each.func) for each in ast.walk(value) if isinstance(each, ast.Call))
    return any(effect in name for name in called for effect in EFFECTS)


def _return_directly(function: ast.FunctionDef) -> None:
    match function.body:
        case [
            *_,
            ast.Assign(targets=[ast.Name(id=name)], value=value),
            ast.Return(value=ast.Name(id=returned)),
        ] if name == returned:
            function.body[-2:] = [ast.Return(value)]
