"""A file against all rules."""

from __future__ import annotations

from pathlib import Path

from fusedops.lint import allow
from fusedops.lint.breach import Breach
from fusedops.lint.rules import RULES
from fusedops.lint.source import Source

SYNTAX = "syntax"


def check_file(path: Path) -> list[Breach]:
    """Every breach in a file, in order; empty for one without Triton."""
    try:
        source = Source.read(path)
    except SyntaxError as error:
        return [Breach(str(path), error.lineno or 1, SYNTAX, f"it is no Python: {error.msg}")]
    return _check(source)


def uses_triton(path: Path) -> bool:
    """Whether there is anything for the rules in a file."""
    try:
        return Source.read(path).uses_triton
    except SyntaxError:
        return False


def check_text(text: str, name: str = "text") -> list[Breach]:
    return _check(Source(text, Path(name)))


def _check(source: Source) -> list[Breach]:
    rules = RULES if source.uses_triton else ()
    breaches = sorted(set[Breach]().union(*(rule.breaches(source) for rule in rules)))
    names = [rule.name for rule in RULES]
    allowed = allow.allowances(source.text)
    return sorted(allow.apply(allowed, breaches, str(source.path), names))


def as_markdown() -> str:
    """The rules, as docs/lint.md has them."""
    rows = "\n".join(f"| `{rule.name}` | {rule.asks} | {rule.source} |" for rule in RULES)
    return f"| Rule | Asks | From |\n|---|---|---|\n{rows}\n"
