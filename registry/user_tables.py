"""Tables in a user's folder, one file a device, and how they lie on top of the package's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from .table import Table


def file_of(device: str) -> str:
    """``"NVIDIA H200"`` -> ``"nvidia_h200.json"``."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_") + ".json"


def read_own(file: Path) -> Table:
    """A table whose rows know the file; ValueError also for that of another device than the name's.

    A file of another device's name was copied by hand, and its times are not this card's.
    """
    table = Table.read(file)
    if file.name != file_of(table.device):
        raise ValueError(
            f"{file} is the table of {table.device}, which would be named {file_of(table.device)}"
        )
    return replace(
        table, measurements=tuple(replace(row, file=str(file)) for row in table.measurements)
    )


def read_folder(folder: Path, warn: Callable[[str], None]) -> dict[str, Table]:
    """The tables in a folder, by device name; what is none, or cannot be read, is warned of."""
    tables = {}
    try:
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    except OSError as error:
        warn(str(error))
        files = []
    for file in files:
        try:
            table = read_own(file)
        except (ValueError, OSError) as error:
            warn(str(error))
        else:
            tables[table.device] = table
    return tables


def without_unknown(
    table: Table, known: Callable[[str], bool], warn: Callable[[str], None]
) -> Table:
    """The rows whose kernels are known; the others are warned of, by the file's name."""
    unknown = {row.kernel: row.file for row in table.measurements if not known(row.kernel)}
    for file in dict.fromkeys(unknown.values()):
        names = ", ".join(name for name, where in unknown.items() if where == file)
        warn(f"{file} names kernels that are not here ({names}): their rows are left out")
    kept = tuple(row for row in table.measurements if row.kernel not in unknown)
    return replace(table, measurements=kept)


def on_top(shipped: Mapping[str, Table], own: Mapping[str, Table]) -> dict[str, Table]:
    """Both, by device: a user's rows in place of the shipped ones of their shape and dtype."""
    merged = dict(shipped)
    for device, table in own.items():
        if table.measurements:
            below = shipped.get(device)
            merged[device] = below.with_rows(table.measurements) if below else table
    return merged
