"""Machine code as text: how often each function has each instruction."""

from __future__ import annotations

import re
from collections import Counter

FUNCTION = re.compile(r"\s*Function : (\S+)")
INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)")

GLOBAL_STORES = ("STG", "UTMASTG", "UBLKPF")
"""By threads, and by TMA."""

ATOMICS = ("ATOM", "ATOMG", "RED", "REDG", "UTMAREDG", "UBLKRED")
GENERIC_STORES = ("ST",)
SPILLS = ("STL", "LDL")
TENSOR = ("HMMA", "HGMMA", "QGMMA", "IMMA", "DMMA", "UTCHMMA")


def instructions(dumped: str) -> dict[str, Counter[str]]:
    """Of each function, from ``cuobjdump -sass``."""
    found: dict[str, Counter[str]] = {}
    current: Counter[str] = Counter()
    for line in dumped.splitlines():
        function = FUNCTION.match(line)
        if function:
            current = found.setdefault(function[1], Counter())
        elif instruction := INSTRUCTION.match(line):
            current[instruction[1]] += 1
    return found
