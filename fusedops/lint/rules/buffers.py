"""Tensors that a host function makes, hands to kernels, and keeps or gives away."""

from __future__ import annotations

import ast
from collections.abc import Iterable
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
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            name = ast.unparse(node.value.func).rsplit(".", maxsplit=1)[-1]
            for target in node.targets:
                if name in MAKERS and isinstance(target, ast.Name):
                    found[target.id] = Buffer(node.value)
    for node in source.within(host):
        if isinstance(node, ast.Name) and node.id in found and isinstance(node.ctx, ast.Load):
            buffer, use = found[node.id], _use(source, node, launches)
            buffer.leaves |= use in ("leaves", "passed on")
            buffer.only_launched &= use != "passed on"
    return found


def _use(source: Source, name: ast.Name, launches: list[ast.Call]) -> str:
    """What becomes of a tensor where it is named: "launched", "looked at", "passed on", "leaves".

    What is made of it by a method or in another call counts as the tensor.
    """
    above: ast.AST = source.parents[name]
    if isinstance(above, ast.Attribute):
        method = isinstance(source.parents[above], ast.Call)
        if above.attr in LOOKED_AT or not method:
            return "leaves" if above.attr in ("T", "mT", "data") else "looked at"
    while not isinstance(above, ast.stmt):
        if above in launches:
            return "launched"
        above = source.parents[above]
    if isinstance(above, ast.Return):
        return "leaves"
    return "looked at" if isinstance(above, ast.Assert) else "passed on"


def is_uninitialized(made: ast.Call) -> bool:
    return "empty" in ast.unparse(made.func)


def base_name(node: ast.expr | None) -> str:
    """The tensor that an argument is, or is a view of."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def written(parameters: Iterable[str], trace: Trace) -> bool:
    return bool(trace.stored.intersection(parameters))
