"""What functions of Triton's language do to shapes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import replace

from fusedops.lint.values import UNKNOWN, Shape, Value, broadcast, combined

Given = Mapping[str, Value]
"""Arguments by name; those without are numbered."""

REDUCTIONS = ("sum", "max", "min", "argmax", "argmin", "xor_sum", "reduce_or")
ELEMENTWISE = (
    *("abs", "add", "ceil", "clamp", "cos", "div_rn", "erf", "exp", "exp2", "fdiv", "floor", "fma"),
    *("log", "log2", "maximum", "minimum", "mul", "rsqrt", "sigmoid", "sin", "sqrt", "sqrt_rn"),
    *("sub", "umulhi", "where", "cdiv"),
)
SAME = ("multiple_of", "max_contiguous", "max_constancy", "cast", "to", "assume", "zeros_like")
POINTERS = ("make_tensor_descriptor", "make_block_ptr", "advance")

SIGNATURES: dict[str, tuple[str, ...]] = {
    "load": ("pointer", "mask", "other"),
    "store": ("pointer", "value", "mask"),
    "arange": ("start", "end"),
    "zeros": ("shape",),
    "full": ("shape",),
    "dot": ("input", "other"),
    **dict.fromkeys(("view", "reshape", "broadcast_to"), ("input", "shape")),
    **dict.fromkeys(("expand_dims", "unsqueeze", *REDUCTIONS), ("input", "axis")),
}


def named(function: str, arguments: tuple[Value, ...], keywords: Given) -> dict[str, Value]:
    names = SIGNATURES.get(function, ())
    numbered = {
        names[index] if index < len(names) else str(index): value
        for index, value in enumerate(arguments)
    }
    return {**numbered, **keywords}


def applied(function: str, arguments: tuple[Value, ...], keywords: Given) -> Value:
    """The result of a function that has no effect."""
    everything = (*arguments, *keywords.values())
    text = f"{function}(" + ", ".join("{}" for _ in everything) + ")"
    given = named(function, arguments, keywords)
    shape = _RULES[function](given) if function in _RULES else None
    result = combined(text, everything, shape)
    first = arguments[0].base if arguments else ""
    if function in POINTERS:
        # What differs in its coordinates is another block.
        moved = tuple(replace(term, scalar=True) for term in result.terms)
        return Value(None, moved, first)
    keeps = (*SAME, "broadcast_to", "expand_dims", "unsqueeze")
    return replace(result, base=first) if function in keeps else result


def subscripted(shape: Shape, parts: list[ast.expr]) -> Shape:
    """Of ``x[:, None]``."""
    if shape is None:
        return None
    left = list(shape)
    result = []
    for part in parts:
        if isinstance(part, ast.Constant) and part.value is None:
            result.append("1")
        elif isinstance(part, ast.Slice) and left:
            result.append(left.pop(0))
        else:
            return None
    return (*result, *left)


def _first(given: Given) -> Shape:
    return next(iter(given.values()), Value()).shape


def _elementwise(given: Given) -> Shape:
    return broadcast(*(each.shape for each in given.values()))


def _arange(given: Given) -> Shape:
    start, end = (given.get(name, Value()).text for name in ("start", "end"))
    if not start or not end:
        return (UNKNOWN,)
    if start == "0":
        return (end,)
    if start.isdecimal() and end.isdecimal():
        return (str(int(end) - int(start)),)
    return (f"{end} - {start}",)


def _stated(given: Given) -> Shape:
    """The shape that is an argument."""
    shape = given.get("shape")
    if shape is None:
        return None
    if shape.items is not None:
        return tuple(each.text or UNKNOWN for each in shape.items)
    return (shape.text,) if shape.shape == () and shape.text else None


def _transposed(given: Given) -> Shape:
    shape = _first(given)
    return shape[::-1] if len(given) == 1 and shape is not None and len(shape) == 2 else None


def _inserted(given: Given) -> Shape:
    shape = _first(given)
    axis = None if shape is None else _axis(given.get("axis"), len(shape) + 1)
    return None if shape is None or axis is None else (*shape[:axis], "1", *shape[axis:])


def _reduced(given: Given) -> Shape:
    shape = _first(given)
    if shape is None or "keep_dims" in given:
        return None
    if "axis" not in given:
        return ()
    axis = _axis(given["axis"], len(shape))
    return None if axis is None else (*shape[:axis], *shape[axis + 1 :])


def _multiplied(given: Given) -> Shape:
    left, right = _first(given), given.get("other", Value()).shape
    if not left or not right or len(left) != len(right) or len(left) < 2:
        return None
    return (*left[:-1], right[-1])


def _axis(value: Value | None, rank: int) -> int | None:
    """An axis that is written as a number, -1 included."""
    text = "" if value is None else value.text.replace("USub(1)", str(rank - 1))
    return int(text) if text.isdecimal() and int(text) < rank else None


_RULES: dict[str, Callable[[Given], Shape]] = {
    **dict.fromkeys(SAME, _first),
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduced),
    **dict.fromkeys(("zeros", "full", "view", "reshape", "broadcast_to"), _stated),
    **dict.fromkeys(("expand_dims", "unsqueeze"), _inserted),
    **dict.fromkeys(("program_id", "num_programs"), lambda given: ()),
    "arange": _arange,
    "trans": _transposed,
    "dot": _multiplied,
}
