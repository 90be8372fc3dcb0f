"""A source file as the rules see it: its syntax tree, its names, its jit functions and launches."""

from __future__ import annotations

import ast
import operator
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Function = ast.FunctionDef
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module

JIT = re.compile(r"triton\.(jit|runtime\.jit|experimental\.gluon\.jit|runtime\.jit\.jit)")
DECORATORS = re.compile(r"triton\.(autotune|heuristics|testing\.\w+|runtime\.autotuner\.\w+)")
"""Triton's decorators that do not compile what they decorate."""

LANGUAGE = re.compile(r"triton\.(experimental\.gluon\.)?language(\.math)?\.(?P<name>\w+)")
ARITHMETIC: dict[type[ast.operator], Callable[[int, int], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}
DEPTH = 8
"""How many assignments are followed from a name to what it stands for."""


@dataclass(frozen=True)
class Launch:
    """``kernel[grid](arguments)`` in host code; function: the kernel, if the file defines it."""

    call: ast.Call
    name: str
    function: Function | None
    grid: ast.expr
    scope: Scope

    def argument(self, parameter: str) -> ast.expr | None:
        """What is passed for a parameter, where that can be told."""
        for keyword in self.call.keywords:
            if keyword.arg == parameter:
                return keyword.value
        if self.function is None:
            return None
        names = parameters(self.function)
        for name, value in zip(names, self.call.args, strict=False):
            if isinstance(value, ast.Starred):
                return None
            if name == parameter:
                return value
        return None


class Source:
    """A file that has been parsed. Raises SyntaxError where it cannot be."""

    def __init__(self, text: str, path: Path) -> None:
        self.text = text
        self.path = path
        self.tree = ast.parse(text, filename=str(path))
        self.parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }

    @classmethod
    def read(cls, path: Path) -> Source:
        try:
            return cls(path.read_text(encoding="utf-8"), path)
        except (UnicodeDecodeError, ValueError) as error:
            raise SyntaxError(str(error)) from error

    # --- names --------------------------------------------------------------------------------

    @property
    def uses_triton(self) -> bool:
        return any(name.split(".")[0] == "triton" for name in self.imports.values())

    @cached_property
    def imports(self) -> dict[str, str]:
        """What each imported name stands for, in full."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for each in node.names:
                    first = each.name.split(".", maxsplit=1)[0]
                    found[each.asname or first] = each.name if each.asname else first
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for each in node.names:
                    found[each.asname or each.name] = f"{module}.{each.name}"
        return found

    def qualified(self, node: ast.expr | None) -> str:
        """``tl.load`` -> ``triton.language.load``; empty where a name is not imported."""
        if isinstance(node, ast.Attribute):
            start = self.qualified(node.value)
            return f"{start}.{node.attr}" if start else ""
        if isinstance(node, ast.Call):  # getattr(module, "name", ...)
            return self._got(node)
        if isinstance(node, ast.BoolOp):  # one name or, in another release, another
            return next(filter(None, map(self.qualified, node.values)), "")
        if not isinstance(node, ast.Name):
            return ""
        if node.id in self.imports:
            return self.imports[node.id]
        value = self.module_values.get(node.id)
        wanted = (ast.Attribute, ast.Call, ast.BoolOp)
        return self.qualified(value) if isinstance(value, wanted) else ""

    def _got(self, call: ast.Call) -> str:
        named = isinstance(call.func, ast.Name) and call.func.id == "getattr"
        if not named or len(call.args) < 2 or not isinstance(call.args[1], ast.Constant):
            return ""
        start, name = self.qualified(call.args[0]), call.args[1].value
        return f"{start}.{name}" if start and isinstance(name, str) else ""

    def language(self, call: ast.expr) -> str:
        """The function of Triton's language, or Gluon's, that is called: ``load``; or nothing."""
        if not isinstance(call, ast.Call):
            return ""
        found = LANGUAGE.fullmatch(self.qualified(call.func))
        return found["name"] if found else ""

    @cached_property
    def module_values(self) -> dict[str, ast.expr]:
        """What the module assigns, once, to a name."""
        return _assigned_once(self.tree.body)

    # --- functions ----------------------------------------------------------------------------

    @cached_property
    def functions(self) -> list[Function]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]

    @cached_property
    def jitted(self) -> dict[str, Function]:
        """Every jit function by its name, and by those that assignments give it."""
        found = {each.name: each for each in self.functions if self.is_jitted(each)}
        plain = {each.name: each for each in self.functions}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                inner = self._jitted_by_call(node.value)
                for target in node.targets:
                    if inner in plain and isinstance(target, ast.Name):
                        found[target.id] = found[inner] = plain[inner]
        return found

    def is_jitted(self, function: Function) -> bool:
        return any(JIT.fullmatch(self._decorator(each)) for each in function.decorator_list)

    def undecorated(self, function: Function) -> bool:
        """Whether nothing but, perhaps, Triton's tuners decorates a function: it stays Python."""
        return all(DECORATORS.fullmatch(self._decorator(each)) for each in function.decorator_list)

    def _decorator(self, node: ast.expr) -> str:
        return self.qualified(node.func if isinstance(node, ast.Call) else node)

    def _jitted_by_call(self, call: ast.Call) -> str:
        """``triton.jit(f)``, or a tuner around it -> ``f``."""
        if not call.args:
            return ""
        inner = call.args[0]
        if JIT.fullmatch(self.qualified(call.func)) and isinstance(inner, ast.Name):
            return inner.id
        return self._jitted_by_call(inner) if isinstance(inner, ast.Call) else ""

    def scope(self, node: ast.AST) -> Scope:
        """The innermost function, or the module, that holds a node."""
        return next(each for each in self.above(node) if isinstance(each, Scope))

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes that hold a node, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def within(self, function: Function) -> Iterator[ast.AST]:
        """The nodes of a function's body, those of functions inside it left out."""
        waiting: deque[ast.AST] = deque(function.body)
        while waiting:
            node = waiting.popleft()
            yield node
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting.extend(ast.iter_child_nodes(node))

    def jitted_calls(self) -> Iterator[tuple[Function, ast.Call]]:
        """Every call inside a jit function."""
        for function in dict.fromkeys(self.jitted.values()):
            for node in self.within(function):
                if isinstance(node, ast.Call):
                    yield function, node

    def tensors(self, function: Function) -> set[str]:
        """Names that are given what functions of the language return, so no tuples."""
        return {
            target.id
            for node in statements(function.body)
            if isinstance(node, ast.Assign) and self.language(node.value) not in ("", "split")
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def imported_function(self, name: str) -> tuple[Source, Function] | None:
        """A jit function that comes from a file beside this one."""
        found = re.fullmatch(r"\.?(\w+)\.(\w+)", self.imports.get(name, ""))
        beside = self.sibling(found[1]) if found else None
        if found is None or beside is None or found[2] not in beside.jitted:
            return None
        return beside, beside.jitted[found[2]]

    def sibling(self, module: str) -> Source | None:
        if module not in self._siblings:
            path = self.path.parent / f"{module}.py"
            self._siblings[module] = None
            if path.is_file() and path != self.path:
                try:
                    self._siblings[module] = Source.read(path)
                except SyntaxError:
                    return None
        return self._siblings[module]

    @cached_property
    def _siblings(self) -> dict[str, Source | None]:
        return {}

    # --- launches -----------------------------------------------------------------------------

    @cached_property
    def launches(self) -> list[Launch]:
        plain = {each.name: each for each in self.functions}
        found = []
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call):
                continue
            if direct := self._run(node):
                found.append(direct)
            if not isinstance(node.func, ast.Subscript):
                continue
            base = node.func.value
            if not isinstance(base, ast.Name) or base.id not in {*plain, *self.jitted}:
                known = isinstance(base, ast.Name | ast.Attribute) and self.qualified(base)
                if not known:
                    continue
            name = ast.unparse(base)
            function = self.jitted.get(name) or plain.get(name)
            found.append(Launch(node, name, function, node.func.slice, self.scope(node)))
        return found

    def _run(self, call: ast.Call) -> Launch | None:
        """``kernel.run(arguments, grid=grid, warmup=False)``."""
        grid = next((each.value for each in call.keywords if each.arg == "grid"), None)
        if grid is None or not isinstance(call.func, ast.Attribute) or call.func.attr != "run":
            return None
        name = ast.unparse(call.func.value)
        function = self.jitted.get(name)
        return None if function is None else Launch(call, name, function, grid, self.scope(call))

    def called(self, call: ast.Call) -> Function | None:
        """The file's own function of Python that is called, where the name is one function's."""
        if not isinstance(call.func, ast.Name):
            return None
        found = [each for each in self.functions if each.name == call.func.id]
        plain = len(found) == 1 and found[0] not in self.jitted.values()
        return found[0] if plain and not found[0].decorator_list else None

    # --- values -------------------------------------------------------------------------------

    def assigned(self, name: str, scope: Scope) -> ast.expr | None:
        """What a name stands for where a scope, or the module around it, assigns it once."""
        while True:
            if isinstance(scope, ast.Module):
                return self.module_values.get(name)
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                if name in parameters(scope):
                    return None
                if assigns(scope, name):
                    return _assigned_once(scope.body).get(name)
            scope = self.scope(scope)

    def constant(self, node: ast.expr | None, scope: Scope, depth: int = DEPTH) -> int | None:
        """The whole number that an expression is, where the file itself says so."""
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if depth and isinstance(node, ast.Name):
            return self.constant(self.assigned(node.id, scope), scope, depth - 1)
        if depth and isinstance(node, ast.Call) and self.language(node) == "constexpr":
            return self.constant(node.args[0] if node.args else None, scope, depth - 1)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self.constant(node.operand, scope, depth)
            return None if value is None else -value
        if isinstance(node, ast.BinOp):
            left = self.constant(node.left, scope, depth)
            right = self.constant(node.right, scope, depth)
            return None if left is None or right is None else _folded(node.op, left, right)
        return None


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[str]:
    arguments = function.args
    return [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def is_constexpr(source: Source, annotation: ast.expr | None) -> bool:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value.endswith("constexpr")
    return source.qualified(annotation).endswith("language.constexpr")


def _folded(operation: ast.operator, left: int, right: int) -> int | None:
    divides = isinstance(operation, ast.FloorDiv)
    raises = isinstance(operation, ast.Pow | ast.LShift)
    if type(operation) not in ARITHMETIC or (divides and not right) or (raises and right > 64):
        return None
    result = ARITHMETIC[type(operation)](left, right)
    return result if isinstance(result, int) else None


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    if isinstance(node, ast.AnnAssign | ast.AugAssign | ast.For):
        return [node.target]
    return []


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement of a body, those of functions and classes inside it left out."""
    for each in body:
        yield each
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from statements(getattr(each, name, []))
        for handler in getattr(each, "handlers", []):
            yield from statements(handler.body)


def assigns(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    """Whether a function gives a name a value, besides a parameter's."""
    return any(
        isinstance(each, ast.Name) and each.id == name
        for node in statements(function.body)
        for target in _targets(node)
        for each in ast.walk(target)
    )


def _assigned_once(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """Names that get one value, as a whole, anywhere in a body."""
    counts: dict[str, int] = {}
    values: dict[str, ast.expr] = {}
    for node in statements(body):
        for target in _targets(node):
            for each in ast.walk(target):
                if isinstance(each, ast.Name):
                    counts[each.id] = counts.get(each.id, 0) + 1
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in _targets(node):
                if isinstance(target, ast.Name):
                    values[target.id] = node.value
    return {name: value for name, value in values.items() if counts[name] == 1}
