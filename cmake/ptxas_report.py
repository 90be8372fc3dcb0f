"""A compiler launcher: runs nvcc and moves what `-Xptxas=-v` says into a file beside the object."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPORT = ".ptxas"
# The continuation lines of an `info` message are indented.
PREFIXES = ("ptxas info", "    ")


def main(command: list[str]) -> int:
    """Run the command; only what is not part of the report reaches the terminal."""
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    lines = result.stderr.splitlines(keepends=True)
    report = [line for line in lines if line.startswith(PREFIXES)]
    if result.returncode == 0 and "-o" in command:
        target = Path(command[command.index("-o") + 1] + REPORT)
        target.write_text("".join(report), encoding="utf-8")
        lines = [line for line in lines if line not in report]
    sys.stderr.writelines(lines)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
