"""Files that are whole, whatever interrupts their writing."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file so that whatever interrupts, a loss of power too, leaves the old or the new."""
    path = path.resolve()
    unfinished = path.with_name(f"{path.name}.unfinished")
    with open(unfinished, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink()
        raise
