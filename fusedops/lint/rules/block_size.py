"""Block sizes are powers of two from 16 to 256."""

from __future__ import annotations

import ast
import re

from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import Source, is_constexpr

LEAST, MOST = 16, 256
BLOCK = re.compile(r"[XYZR]?(BLOCK|BLK|TILE)(SIZE|[MNKDHXYZ])?|B[MNK]")
COUNTS = {"NUM", "COUNT", "PER", "PTR", "ID", "IDX", "INDEX", "STRIDE", "GROUP", "WARPS", "TABLE"}
"""Words of names that have BLOCK in them and are no lengths."""

SHAPED = {"arange": 1, "zeros": 0, "full": 0}


def is_block(name: str) -> bool:
    """Whether a name is that of a block's length: BLOCK_M, BLOCK_SIZE, XBLOCK, TILE_N, BK."""
    words = name.upper().split("_")
    return any(BLOCK.fullmatch(word) for word in words) and not COUNTS.intersection(words)


def check(source: Source) -> Findings:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and source.qualified(node.func).endswith("triton.Config"):
            yield from _of_a_configuration(source, node)
    for launch in source.launches:
        known = _constants(source, launch.function) if launch.function else set()
        named = {each.arg for each in launch.call.keywords if each.arg and each.arg.isupper()}
        for name in sorted(filter(is_block, known | named)):
            value = launch.argument(name)
            yield from _checked(source, name, value, launch.call)
    for function in dict.fromkeys(source.jitted.values()):
        yield from _inside(source, function)
    for _, call in source.jitted_calls():
        yield from _lengths(source, call)


def _of_a_configuration(source: Source, node: ast.Call) -> Findings:
    given = next((each.value for each in node.keywords if each.arg == "kwargs"), None)
    sizes = node.args[0] if node.args else given
    if isinstance(sizes, ast.Dict):
        for key, value in zip(sizes.keys, sizes.values, strict=True):
            if isinstance(key, ast.Constant) and is_block(str(key.value)):
                yield from _checked(source, str(key.value), value, node)


def _inside(source: Source, function: ast.FunctionDef) -> Findings:
    """Defaults of the kernel's parameters, and constants of its body."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    late = arguments[len(arguments) - len(function.args.defaults) :]
    defaults = [
        *zip(late, function.args.defaults, strict=True),
        *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True),
    ]
    for argument, value in defaults:
        if is_block(argument.arg) and is_constexpr(source, argument.annotation):
            yield from _checked(source, argument.arg, value, function)
    for node in source.within(function):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and is_block(target.id):
                yield from _checked(source, target.id, node.value, node)
        if isinstance(node, ast.Name) and is_block(node.id):
            outside = source.module_values.get(node.id)
            if source.assigned(node.id, function) is outside:
                yield from _checked(source, node.id, outside, node)


def _constants(source: Source, function: ast.FunctionDef) -> set[str]:
    """The parameters that are compiled in, or are written as if they were."""
    return {
        each.arg
        for each in (*function.args.args, *function.args.kwonlyargs)
        if each.arg.isupper() or is_constexpr(source, each.annotation)
    }


def _checked(source: Source, name: str, value: ast.expr | None, place: ast.AST) -> Findings:
    if isinstance(value, ast.IfExp):
        for each in (value.body, value.orelse):
            yield from _checked(source, name, each, place)
        return
    size = source.constant(value, source.scope(place))
    if size is not None and (size & (size - 1) or not LEAST <= size <= MOST):
        yield value or place, f"{name} is {size}: it must be a power of two from {LEAST} to {MOST}"


def _lengths(source: Source, call: ast.Call) -> Findings:
    """Of blocks that are made from numbers: Triton itself needs powers of two."""
    name = source.language(call)
    index = SHAPED.get(name)
    if index is None or len(call.args) <= index:
        return
    scope = source.scope(call)
    shape = call.args[index]
    lengths = shape.elts if isinstance(shape, ast.Tuple | ast.List) else [shape]
    for each in lengths:
        length = source.constant(each, scope)
        start = source.constant(call.args[0], scope) if name == "arange" else 0
        block = isinstance(each, ast.Name) and is_block(each.id)  # looked at where it is set
        if length is None or start is None or block:
            continue
        size = length - start
        if size < 1 or size & (size - 1):
            yield call, f"{name} makes a block of {size} elements: it must be a power of two"


RULE = Rule(
    "block-size",
    "BLOCK sizes MUST be power-of-2: 16, 32, 64, 128, 256",
    f"Where a block's size is a number (in a configuration, a launch, a default, the kernel's "
    f"body), it is a power of two from {LEAST} to {MOST}; a length that is no block's by its name "
    "is a power of two.",
    check,
)
