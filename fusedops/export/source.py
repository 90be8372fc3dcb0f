"""The syntax tree of a jit function, with its comments and its empty lines."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from typing import Any


def is_jitted(value: object) -> bool:
    """Whether it is Triton's: compiled, or run by its interpreter."""
    return hasattr(value, "fn") and hasattr(value, "arg_names")


def tree(function: Any) -> ast.FunctionDef:
    """A jit function's definition, each statement with what stands ``above`` it."""
    text = textwrap.dedent(inspect.getsource(function.fn))
    definition = ast.parse(text).body[0]
    assert isinstance(definition, ast.FunctionDef)
    comments, lines = _comments(text), text.splitlines()
    for node in ast.walk(definition):
        if isinstance(node, ast.stmt):
            line = node.lineno - 1
            found: list[str] = []
            while line in comments:
                found.insert(0, comments[line])
                line -= 1
            if line > 0 and not lines[line - 1].strip():
                found.insert(0, "")
            node.above = found  # type: ignore[attr-defined]
    return definition


def above(node: ast.AST) -> list[str]:
    """The comments above a statement, behind an empty line if there is one."""
    found: list[str] = getattr(node, "above", [])
    return found


def _comments(text: str) -> dict[int, str]:
    """The comments that have a line to themselves, by its number."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {
        token.start[0]: token.string
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.strip() == token.string
    }
