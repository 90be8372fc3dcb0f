"""Deliberate exceptions: ``# fusedops: allow RULE reason``, on the line or on the line above."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from fusedops.lint.breach import Breach

RULE = "allow"
COMMENT = re.compile(r"#\s*fusedops:\s*allow\b\s*(?P<rule>[\w-]*)\s*(?P<reason>.*)")
SILENT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


@dataclass(frozen=True)
class Allowance:
    line: int
    rule: str
    reason: str
    covers: frozenset[int]


def allowances(text: str) -> list[Allowance]:
    """Every such comment; one that has its line to itself speaks for the next line of code."""
    found = []
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for index, token in enumerate(tokens):
        comment = COMMENT.match(token.string) if token.type == tokenize.COMMENT else None
        if not comment:
            continue
        line = token.start[0]
        covers = {line}
        if not token.line[: token.start[1]].strip():
            following = (each for each in tokens[index + 1 :] if each.type not in SILENT)
            covers.add(next(following).start[0])
        found.append(Allowance(line, comment["rule"], comment["reason"].strip(), frozenset(covers)))
    return found


def apply(
    allowed: Iterable[Allowance], breaches: list[Breach], file: str, rules: Collection[str]
) -> list[Breach]:
    """The breaches that remain, and those of the comments themselves."""
    remaining = list(breaches)
    for each in allowed:
        if each.rule not in rules:
            complaint = f"it names no rule: {each.rule or 'nothing'}; known: {', '.join(rules)}"
        elif not each.reason:
            complaint = f"it gives no reason: # fusedops: allow {each.rule} REASON"
        else:
            covered = [
                breach
                for breach in breaches
                if breach.rule == each.rule and breach.line in each.covers
            ]
            remaining = [breach for breach in remaining if breach not in covered]
            complaint = "" if covered else f"nothing here breaks {each.rule}: remove the comment"
        if complaint:
            remaining.append(Breach(file, each.line, RULE, complaint))
    return remaining
