"""A kernel and the functions it calls, as if written for one choice of its constants.

The trees of the jit functions are folded call by call: a function that is called with constants is
written for them, and one of which a single expression is left is written into its caller.
"""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusedops.export import source
from fusedops.export.fold import Fold
from fusedops.export.tidy import tidy, without_docstring


@dataclass(frozen=True)
class Specialized:
    """body: the expression that a call can be replaced by, where one is all that is left."""

    name: str
    parameters: tuple[str, ...]
    body: ast.expr | None


class Specializer:
    """``functions`` are the definitions, in an order in which each is known before it is used."""

    def __init__(self) -> None:
        self.functions: list[ast.FunctionDef] = []
        self._known: dict[tuple[Any, ...], Specialized] = {}
        self._names: set[str] = set()

    def entry(
        self, function: Any, constants: Mapping[str, Any], present: set[str], name: str
    ) -> ast.FunctionDef:
        """The kernel itself, under another name; constants: of parameters, as Python values."""
        folded = {key: _expression(value) for key, value in constants.items()}
        self._names.add(name)
        definition = self._fold(function, folded, present)
        definition.name = name
        self.functions.append(definition)
        return definition

    def _fold(
        self, function: Any, constants: Mapping[str, ast.expr], present: set[str]
    ) -> ast.FunctionDef:
        definition = source.tree(function)
        arguments = definition.args.args
        definition.args.args = [each for each in arguments if each.arg not in constants]
        Fold(constants, present).visit(definition)
        _Calls(self, function.fn.__globals__, present).visit(definition)
        tidy(definition)
        return definition

    def called(
        self, function: Any, constants: Mapping[str, ast.expr], present: set[str]
    ) -> Specialized:
        written = {name: ast.dump(value) for name, value in constants.items()}
        key = (function, *sorted(written.items()), *sorted(present))
        if key not in self._known:
            definition = self._fold(function, constants, present)
            name = definition.name = self._free_name(function.fn.__name__)
            body = _single_expression(definition) if constants else None
            if body is None:
                self._names.add(name)
                self.functions.append(definition)
            parameters = tuple(each.arg for each in definition.args.args)
            self._known[key] = Specialized(name, parameters, body)
        return self._known[key]

    def _free_name(self, name: str) -> str:
        taken, number = name, 2
        while taken in self._names:
            taken, number = f"{name}_{number}", number + 1
        return taken


class _Calls(ast.NodeTransformer):
    """Replaces calls of jit functions by calls of what is left of them, or by what is left."""

    def __init__(
        self, specializer: Specializer, globals_: Mapping[str, Any], present: set[str]
    ) -> None:
        self.specializer = specializer
        self.globals = globals_
        self.present = present

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.func, ast.Name):
            return node
        function = getattr(node.func, "function", self.globals.get(node.func.id))
        if not source.is_jitted(function):
            return node
        given = _bind(function, node)
        fixed = _compile_time(function, given)
        present = {
            name
            for name, value in given.items()
            if isinstance(value, ast.Name) and value.id in self.present
        }
        left = self.specializer.called(function, fixed, present)
        arguments = {name: given[name] for name in left.parameters}
        if left.body is not None:
            return _Substitute(arguments).visit(copy.deepcopy(left.body))  # type: ignore[no-any-return]
        return ast.Call(ast.Name(left.name, ast.Load()), list(arguments.values()), [])


class _Substitute(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.values.get(node.id, node)


def _bind(function: Any, call: ast.Call) -> dict[str, ast.expr]:
    """The expression that each parameter is given."""
    keywords = {each.arg: each.value for each in call.keywords if each.arg is not None}
    bound = inspect.signature(function.fn).bind(*call.args, **keywords)
    return dict(bound.arguments)


def _compile_time(function: Any, given: Mapping[str, ast.expr]) -> dict[str, ast.expr]:
    """What a call fixes: its constants, dtypes and functions, and the operands that are None."""
    parameters = inspect.signature(function.fn).parameters
    fixed: dict[str, ast.expr] = {}
    for name, value in given.items():
        if isinstance(value, ast.Constant):
            if value.value is None or "constexpr" in str(parameters[name].annotation):
                fixed[name] = value
        elif hasattr(value, "function") or hasattr(value, "dtype"):
            fixed[name] = value
    return fixed


def _expression(value: Any) -> ast.expr:
    """A compile-time value, as one writes it."""
    if source.is_jitted(value):
        name = ast.Name(value.fn.__name__, ast.Load())
        name.function = value  # type: ignore[attr-defined]
        return name
    if isinstance(value, bool | int | str | None):
        return ast.Constant(value)
    dtype = ast.Attribute(ast.Name("tl", ast.Load()), _dtype_name(value), ast.Load())
    dtype.dtype = value  # type: ignore[attr-defined]
    return dtype


def _dtype_name(value: Any) -> str:
    import triton.language as tl

    return next(  # type: ignore[no-any-return]
        name for name, each in vars(tl).items() if each is value and name != "dtype"
    )


def _single_expression(definition: ast.FunctionDef) -> ast.expr | None:
    """What a function comes down to, if a caller may write it down as it is."""
    match without_docstring(definition):
        case [ast.Return(value=ast.expr() as value)] | [ast.Expr(value=value)]:
            uses = [each.id for each in ast.walk(value) if isinstance(each, ast.Name)]
            once = all(uses.count(each.arg) <= 1 for each in definition.args.args)
            return value if once else None
    return None
