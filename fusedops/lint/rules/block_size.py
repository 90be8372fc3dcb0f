"""Block sizes are powers of two from 16 to 256."""

from __future__ import annotations

import ast
import re

from fusedops.lint.rules.choices import choices, defaults
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
    functions = list(dict.fromkeys(source.jitted.values()))
    made = set[str]().union(*(_made_of(source, each) for each in functions))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and source.qualified(node.func).endswith("triton.Config"):
            yield from _of_a_configuration(source, node, made)
    for launch in source.launches:
        known = _constants(source, launch.function) if launch.function else set()
        own = _made_of(source, launch.function) if launch.function else set()
        named = {each.arg for each in launch.call.keywords if each.arg and each.arg.isupper()}
        for name in sorted({*filter(is_block, known | named), *own}):
            value = launch.argument(name)
            yield from _checked(source, name, value, launch.call)
    for function in functions:
        yield from _inside(source, function)
    for function, call in source.jitted_calls():
        yield from _lengths(source, function, call)


def _made_of(source: Source, function: ast.FunctionDef) -> set[str]:
    """The constants that a kernel's one block is as long as, whatever their names."""
    ends = {ast.unparse(each.args[1]) for each in _ranges(source, function)}
    return ends & _constants(source, function) if len(ends) == 1 else set()


def _ranges(source: Source, function: ast.FunctionDef) -> list[ast.Call]:
    calls = (node for node in source.within(function) if isinstance(node, ast.Call))
    return [each for each in calls if source.language(each) == "arange" and len(each.args) == 2]


def _of_a_configuration(source: Source, node: ast.Call, made: set[str]) -> Findings:
    given = next((each.value for each in node.keywords if each.arg == "kwargs"), None)
    sizes = node.args[0] if node.args else given
    if isinstance(sizes, ast.Dict):
        for key, value in zip(sizes.keys, sizes.values, strict=True):
            if isinstance(key, ast.Constant) and (is_block(str(key.value)) or key.value in made):
                yield from _checked(source, str(key.value), value, node)


def _inside(source: Source, function: ast.FunctionDef) -> Findings:
    """Defaults of the kernel's parameters, and constants of its body."""
    made = _made_of(source, function)
    for argument, value in defaults(function):
        block = is_block(argument.arg) or argument.arg in made
        if block and is_constexpr(source, argument.annotation):
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
    for each in choices(source, value):
        size = source.constant(each, source.scope(each if each in source.parents else place))
        if size is not None and (size & (size - 1) or not LEAST <= size <= MOST):
            yield each, f"{name} is {size}: it must be a power of two from {LEAST} to {MOST}"


def _lengths(source: Source, function: ast.FunctionDef, call: ast.Call) -> Findings:
    """Of blocks that are made from numbers: Triton itself needs powers of two.

    A short one is no block's side where the kernel makes another; one element is a scalar.
    """
    alone = len({ast.unparse(each) for each in _ranges(source, function)}) == 1
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
        elif name == "arange" and (size > MOST or (alone and 1 < size < LEAST)):
            within = f"it must be a power of two from {LEAST} to {MOST}"
            yield call, f"{name} makes a block of {size} elements: {within}"


RULE = Rule(
    "block-size",
    "BLOCK sizes MUST be power-of-2: 16, 32, 64, 128, 256",
    f"Where a block's size is a number (in a configuration, a launch, a default, what a "
    f"comprehension goes through, the kernel's body), it is a power of two from {LEAST} to {MOST}: "
    "what is called a block, and the one length that a kernel's `tl.arange` counts to, whatever it "
    f"is called. No `tl.arange` is longer than {MOST}, and any other length is a power of two.",
    check,
)
