"""Whether a command can write where it is told to, found out before it begins."""

from __future__ import annotations

import tempfile
from pathlib import Path


def why_no_folder(folder: Path) -> str | None:
    """Why there can be no files in it. It is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except FileExistsError:
        return "it is there, and is no folder"
    except OSError as error:
        return error.strerror or str(error)


def why_no_file(path: Path) -> str | None:
    """Why it cannot be written, anew or again. Its folder is made where it is missing."""
    try:
        if path.is_dir():
            return "it is a folder"
    except OSError as error:
        return error.strerror or str(error)
    return why_no_folder(path.parent)
