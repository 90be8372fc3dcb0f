"""The registry's table of a card, from the times of every configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from fusedops import backends
from fusedops.bench.measure import is_ours
from fusedops.bench.peaks import FP16_ACCUMULATION, TF32
from fusedops.bench.report import Report
from fusedops.files import write_whole
from fusedops.plans import device_facts
from fusedops.registry import Measurement, Table
from fusedops.registry.table import NEAR

MOST_OF_A_SHAPE = 6
"""A shape lists so many configurations, those that take at most NEAR times the fastest's time:
enough to speak for its neighbours, as benchmarks/left_out.py shows of a table. And the fastest of
every backend, for machines that lack the others."""


def table_so_far(path: Path, device: torch.device) -> Table:
    """The file's table, or an empty one. Raises ValueError for what is no table of this card."""
    facts = device_facts(device)
    if not path.exists():
        return Table(facts["device_name"], facts["capability"], ())
    table = Table.read(path)
    if table.device != facts["device_name"]:
        raise ValueError(f"{path} is the table of {table.device}; this is {facts['device_name']}")
    return table


def write_table(path: Path, before: Table, report: Report) -> None:
    """Write each shape's fastest configurations; keep the table's other shapes and dtypes.

    A report with sums in float16 adds to what float16 has without them.
    """
    arithmetic = TF32 if report.precision == TF32 else report.dtype
    packages = ", ".join(f"{name} {each}" for name, each in report.versions.items() if each)
    origin = f"{report.date}, {packages}, {report.method}: {report.command}"
    measured = [
        Measurement(*row.shape, arithmetic, *_kernel_and_config(name), round(time, 2), origin)
        for row in report.rows
        for name, time in _fastest(row.microseconds)
    ]
    after = before.with_rows(measured, lambda row: _key(row, report.precision))
    write_whole(path, after.as_text())


def _fastest(microseconds: Mapping[str, float]) -> list[tuple[str, float]]:
    """Of the fused kernels: the reference serves where none of them can."""
    ours = sorted(
        (
            (name, time)
            for name, time in microseconds.items()
            if is_ours(name) and name != backends.REFERENCE.name
        ),
        key=lambda item: item[1],
    )
    listed = {name: time for name, time in ours[:MOST_OF_A_SHAPE] if time <= NEAR * ours[0][1]}
    for name, time in ours:
        if _backend(name) not in map(_backend, listed):
            listed[name] = time
    return list(listed.items())


def _backend(name: str) -> str:
    return name.partition(".")[0]


def _kernel_and_config(name: str) -> tuple[str, str]:
    kernel, _, config = name.partition(" ")
    return kernel, config


def _key(row: Measurement, precision: str) -> tuple[object, ...]:
    of_shape = (row.dtype, row.shape)
    return (*of_shape, row.kernel, row.config) if precision == FP16_ACCUMULATION else of_shape
