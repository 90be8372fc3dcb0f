"""Tensors that a host function makes, hands to kernels, and keeps or gives away."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fusedops.lint.source import Source, statements
from fusedops.lint.trace import Trace

MAKERS = {
    f"{prefix}{kind}{suffix}"
    for kind in ("empty", "zeros", "ones", "full", "rand", "randn")
    for prefix in ("", "new_")
    for suffix in ("", "_like")
} | {"empty_strided", "new_tensor"}
LOOKED_AT = {
    "data_ptr",
    "dim",
    "element_size",
    "is_contiguous",
    "nelement",
    "numel",
    "size",
    "stride",
}
"""Methods that give nothing of a tensor's contents away."""


@dataclass
class Buffer:
    """made: the call. leaves: whether it may be seen outside. only_launched: nothing but launches
    takes it as an argument."""

    made: ast.Call
    leaves: bool = False
    only_launched: bool = True


def local_buffers(
    source: Source, host: ast.FunctionDef, launches: list[ast.Call]
) -> dict[str, Buffer]:
    found: dict[str, Buffer] = {}
    for node in statements(host.body):
        if isinstance(node, ast.Assign):
            for target, value in _pairs(node.targets[0], node.value):
                if isinstance(target, ast.Name) and isinstance(value, ast.Call) and makes(value):
                    found[target.id] = Buffer(value)
    for name in source.within(host):
        if isinstance(name, ast.Name) and name.id in found and isinstance(name.ctx, ast.Load):
            buffer, use = found[name.id], _use(source, name, launches)
            buffer.leaves |= use in ("leaves", "passed on")
            buffer.only_launched &= use != "passed on"
    return found


def makes(call: ast.expr | None) -> bool:
    """Whether a call makes a new tensor."""
    if not isinstance(call, ast.Call):
        return False
    return ast.unparse(call.func).rsplit(".", maxsplit=1)[-1] in MAKERS


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """``a, b = c, d`` one by one."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(target.elts, value.elts, strict=False)
    else:
        yield target, value


def _use(source: Source, name: ast.Name, launches: list[ast.Call]) -> str:
    """What becomes of a tensor where it is named: "launched", "looked at", "passed on", "leaves".

    What is made of it by a method or in another call counts as the tensor.
    """
    owner = source.parents[name]
    if isinstance(owner, ast.Attribute):
        method = isinstance(source.parents[owner], ast.Call)
        if owner.attr in LOOKED_AT or not method:
            return "leaves" if owner.attr in ("T", "mT", "data") else "looked at"
    for above in source.above(name):
        if above in launches:
            return "launched"
        if isinstance(above, ast.stmt):
            kinds = {ast.Return: "leaves", ast.Assert: "looked at"}
            return kinds.get(type(above), "passed on")
    return "looked at"


def is_uninitialized(made: ast.Call) -> bool:
    return "empty" in ast.unparse(made.func)


def base_name(node: ast.expr | None) -> str:
    """The tensor that an argument is, or is a view of."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def written(parameters: Iterable[str], trace: Trace) -> bool:
    return bool(trace.stored.intersection(parameters))
