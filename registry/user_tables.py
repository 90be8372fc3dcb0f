"""Tables in a user's folder, one file a device, and how they lie on top of the package's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from .kernel import Kernel
from .problem import CARDS, Card, Problem
from .table import Measurement, Table

MOST_NAMED = 3
"""Rows that one warning names; the others it counts."""


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


def contradicts(table: Table, shipped: Mapping[str, Table]) -> str:
    """How a table's card is another than the package knows by its name; empty where it is not."""
    known = shipped.get(table.device)
    if known is None or known.capability == table.capability:
        return ""
    says, is_ = (".".join(map(str, each.capability)) for each in (table, known))
    return f"{table.device} is of capability {is_}, not {says}"


def without_unknown(
    table: Table, kernels: Sequence[Kernel], missing: Collection[str], warn: Callable[[str], None]
) -> Table:
    """The rows whose kernel and configuration are known, or whose whole backend is ``missing``.

    The others are warned of, by the file's name: rows that nothing can be chosen by would only hide
    the shipped ones of their shape.
    """
    here = {kernel.name: kernel for kernel in kernels}
    known: list[Measurement] = []
    unknown: list[Measurement] = []
    foreign = dict[str, None]()
    for row in table.measurements:
        if row.kernel in here:
            fits = _is_known(here[row.kernel], row, table)
            (known if fits else unknown).append(row)
        elif row.kernel.partition(".")[0] in missing:
            known.append(row)
        else:
            foreign[row.kernel] = None
    file = table.measurements[0].file if table.measurements else ""
    if foreign:
        names = ", ".join(foreign)
        warn(f"{file} names kernels that are not here ({names}): their rows are left out")
    if unknown:
        shown = "; ".join(map(_name, unknown[:MOST_NAMED]))
        more = len(unknown) - MOST_NAMED
        others = f"; and {more} more" if more > 0 else ""
        warn(
            f"{file} names configurations that their kernels do not have for the shape ({shown}"
            f"{others}): these rows are left out"
        )
    return replace(table, measurements=tuple(known))


def _name(row: Measurement) -> str:
    shape = "x".join(map(str, row.shape))
    return f"{shape} {row.dtype} {row.kernel} {row.config}"


def _is_known(kernel: Kernel, row: Measurement, table: Table) -> bool:
    """Whether some contiguous problem that the row speaks for has the configuration."""
    return any(
        row.config in map(str, kernel.configs(problem))
        or kernel.config_named(problem, row.config) is not None
        for problem in _spoken_for(row, table)
    )


def _spoken_for(row: Measurement, table: Table) -> Iterator[Problem]:
    """Those of one arithmetic: with a bias and without, and with sums in float16 where they may."""
    tf32 = row.dtype == "tf32"
    dtype = torch.float32 if tf32 else getattr(torch, row.dtype, None)
    if not isinstance(dtype, torch.dtype):
        return
    card = next(
        (each for each in CARDS.values() if each.name == table.device),
        Card(table.device, table.capability, 0),
    )
    for bias, short_sums in product((dtype, None), (False, True)):
        if short_sums and dtype != torch.float16:
            continue
        problem = Problem.contiguous(*row.shape, dtype, bias_dtype=bias, card=card)
        yield replace(
            problem,
            fp32_precision="tf32" if tf32 else "ieee",
            allow_fp16_accumulation=short_sums,
        )


def on_top(shipped: Mapping[str, Table], own: Mapping[str, Table]) -> dict[str, Table]:
    """Both, by device: a user's rows in place of the shipped ones of their shape and dtype."""
    merged = dict(shipped)
    for device, table in own.items():
        if table.measurements:
            below = shipped.get(device)
            merged[device] = below.with_rows(table.measurements) if below else table
    return merged
