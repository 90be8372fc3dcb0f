"""Python from syntax trees, with comments, and lines that fit."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from fusedops.export.source import above

WIDTH = 100
INDENT = "    "


def write(node: ast.stmt, depth: int = 0) -> Iterator[str]:
    """The lines of a statement."""
    margin = INDENT * depth
    for line in above(node):
        yield margin + line if line else ""
    match node:
        case ast.FunctionDef():
            for decorator in node.decorator_list:
                yield from fit("@" + _text(decorator), margin)
            yield from fit(f"def {node.name}({_text(node.args)}):", margin)
            yield from _block(node.body, depth + 1)
        case ast.For():
            yield from fit(f"for {_text(node.target)} in {_text(node.iter)}:", margin)
            yield from _block(node.body, depth + 1)
        case ast.If():
            yield from fit(f"if {_text(node.test)}:", margin)
            yield from _block(node.body, depth + 1)
            if node.orelse:
                yield f"{margin}else:"
                yield from _block(node.orelse, depth + 1)
        case ast.Expr(value=ast.Constant(value=str(docstring))):
            lines = f'"""{docstring}"""'.splitlines()
            yield margin + lines[0]
            yield from lines[1:]
        case _:
            yield from fit(_text(node), margin)


def _block(statements: list[ast.stmt], depth: int) -> Iterator[str]:
    for index, statement in enumerate(statements):
        lines = write(statement, depth)
        first = next(lines)
        if first or index:
            yield first
        yield from lines


def _text(node: ast.AST) -> str:
    """One line of it, strings in double quotes."""
    text = ast.unparse(node)
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        text = f"return {text.removeprefix('return (').removesuffix(')')}"
    return re.sub(r"'([^'\"\\]*)'", r'"\1"', text)


def fit(line: str, margin: str) -> Iterator[str]:
    """The line, broken within its longest brackets if it is too wide."""
    brackets = _brackets(line)
    if len(margin + line) <= WIDTH or not brackets:
        yield margin + line
        return
    first, last = max(brackets, key=lambda pair: pair[1] - pair[0])
    inside = margin + INDENT
    yield margin + line[: first + 1]
    if len(inside) + last - first - 1 <= WIDTH and not line.startswith("@"):
        yield inside + line[first + 1 : last]
    else:
        parts = list(_parts(line[first + 1 : last]))
        comma = "," if len(parts) > 1 or _takes_a_comma(line, first) else ""
        for part in parts:
            yield from fit(part + comma, inside)
    yield margin + line[last:]


def _brackets(line: str) -> list[tuple[int, int]]:
    """Where pairs of them are."""
    opened: list[int] = []
    found: list[tuple[int, int]] = []
    for place, character in enumerate(_without_strings(line)):
        if character in "([{":
            opened.append(place)
        elif character in ")]}":
            found.append((opened.pop(), place))
    return found


def _takes_a_comma(line: str, bracket: int) -> bool:
    """Whether one element with a comma is what it was without: in calls and lists, not in indices
    and groups, where it makes a tuple."""
    behind_a_name = bracket > 0 and (line[bracket - 1].isalnum() or line[bracket - 1] in "_)]")
    return {"(": behind_a_name, "[": not behind_a_name, "{": True}[line[bracket]]


def _parts(text: str) -> Iterator[str]:
    """What commas divide, outside of brackets."""
    depth, start = 0, 0
    for place, character in enumerate(_without_strings(text)):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()


def _without_strings(line: str) -> str:
    return re.sub(r'"([^"\\]|\\.)*"', lambda found: "_" * len(found[0]), line)
