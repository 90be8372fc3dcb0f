"""What is left of a jit function's tree once some of its names are constants."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

OPERATIONS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class Fold(ast.NodeTransformer):
    """Puts constants in, takes the branches they decide, and drops the others.

    constants: an expression for each parameter. present: parameters that are known not to be None.
    A local constexpr that comes out as a number, whatever is run, is a constant from there on.
    """

    def __init__(self, constants: Mapping[str, ast.expr], present: set[str]) -> None:
        self.constants = dict(constants)
        self.present = present
        self.perhaps = 0
        """How many undecided branches and loops are around."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self.constants:
            return self.constants[node.id]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        if len(node.ops) != 1:
            return node
        left, comparison, right = node.left, node.ops[0], node.comparators[0]
        if isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
            return ast.Constant(OPERATIONS[type(comparison)](left.value, right.value))
        against_none = isinstance(right, ast.Constant) and right.value is None
        if against_none and isinstance(left, ast.Name) and left.id in self.present:
            return ast.Constant(isinstance(comparison, ast.IsNot))
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        right = node.right
        if isinstance(right, ast.Constant) and type(node.op) in OPERATIONS:
            if isinstance(node.left, ast.Constant):
                return ast.Constant(OPERATIONS[type(node.op)](node.left.value, right.value))
            if isinstance(node.op, ast.FloorDiv) and right.value == 1:
                return node.left
        return node

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt]:
        test = self.visit(node.test)
        if isinstance(test, ast.Constant):
            return self._block(node.body if test.value else node.orelse)
        node.test = test
        node.body, node.orelse = self._perhaps(node.body), self._perhaps(node.orelse)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        assert node.value is not None
        node.value = self.visit(node.value)
        certain = isinstance(node.value, ast.Constant) and not self.perhaps
        if certain and isinstance(node.target, ast.Name):
            self.constants[node.target.id] = node.value  # a constexpr is assigned once
            return None
        return node

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        kept: list[ast.stmt] = []
        for statement in statements:
            found = self.visit(statement)
            kept += found if isinstance(found, list) else [found] if found is not None else []
            if kept and isinstance(kept[-1], ast.Return):
                break
        return kept

    def _perhaps(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        self.perhaps += 1
        block = self._block(statements)
        self.perhaps -= 1
        return block

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        fixed = self.constants.keys()
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                assert each.id not in fixed, f"{node.name} assigns {each.id}, which is constant"
        node.body = self._block(node.body)
        return node

    def visit_For(self, node: ast.For) -> ast.For:
        node.iter = self.visit(node.iter)
        node.body = self._perhaps(node.body)
        return node
