"""Turns the ptxas reports beside the given objects into a C++ table."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ptxas_report import REPORT

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
BARRIERS = re.compile(r"used (\d+) barriers")
SHARED = re.compile(r"(\d+) bytes smem")

TABLE = """\
#include "cuda/resources.h"

namespace fusedops {{

const std::vector<CompiledResources>& compiled_resources() {{
  static const std::vector<CompiledResources> all = {{
{rows}
  }};
  return all;
}}

}}  // namespace fusedops
"""


def first(pattern: re.Pattern[str], text: str) -> int:
    """The number the pattern finds, 0 where ptxas leaves it out."""
    match = pattern.search(text)
    return int(match[1]) if match else 0


def rows(report: str) -> Iterator[str]:
    """One initializer an entry function and architecture."""
    entries = list(ENTRY.finditer(report))
    ends = [*(entry.start() for entry in entries), len(report)][1:]
    for entry, end in zip(entries, ends, strict=True):
        text = report[entry.end() : end]
        spills = SPILLS.search(text)
        if spills is None or not USED.search(text):
            raise SystemExit(f"cannot read the ptxas report of {entry[1]} for {entry[2]}:\n{text}")
        numbers = (
            first(USED, text),
            int(spills[1]) + int(spills[2]),
            first(SHARED, text),
            first(BARRIERS, text),
        )
        yield f'      {{"{entry[1]}", "{entry[2]}", {", ".join(map(str, numbers))}}},'


def main(table: str, *objects: str) -> None:
    """Write the table of every object's report."""
    lines: list[str] = []
    for path in sorted(objects):
        report = Path(path + REPORT)
        if not report.exists():
            raise SystemExit(f"{report} is missing: remove {path} and build again")
        lines += rows(report.read_text(encoding="utf-8"))
    Path(table).write_text(TABLE.format(rows="\n".join(lines)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
