"""The registry's table of a card, from the times of every configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from fusedops.bench.measure import is_ours
from fusedops.bench.peaks import FP16_ACCUMULATION, TF32
from fusedops.bench.report import Report
from fusedops.plans import device_facts
from fusedops.registry import Measurement, Table

MOST_OF_A_SHAPE = 6
NEAR = 1.1
"""A shape lists so many configurations, those that take at most NEAR times the fastest's time. Left
out one at a time, 130 shapes in bfloat16 on an NVIDIA H200 lose 5 % to the fastest configuration
known at each; with the nearest shape's fastest alone, 10 %."""


def add_to_table(path: Path, device: torch.device, report: Report) -> None:
    """Write each shape's fastest configurations; keep the file's other shapes and dtypes.

    A report with sums in float16 adds to what float16 has without them.
    """
    before = Table.parse(json.loads(path.read_text())).measurements if path.exists() else ()
    arithmetic = TF32 if report.precision == TF32 else report.dtype
    measured = [
        Measurement(*row.shape, arithmetic, *_kernel_and_config(name), round(time, 2))
        for row in report.rows
        for name, time in _fastest(row.microseconds)
    ]
    replaced = {_key(row, report.precision) for row in measured}
    kept = (row for row in before if _key(row, report.precision) not in replaced)
    packages = ", ".join(f"{name} {each}" for name, each in report.versions.items() if each)
    origin = f"{report.date}, {packages}, {report.method}: {report.command}"
    facts = device_facts(device)
    table = Table(facts["device_name"], facts["capability"], origin, (*kept, *measured))
    path.write_text(one_row_a_line(table))


def _fastest(microseconds: Mapping[str, float]) -> list[tuple[str, float]]:
    ours = sorted(
        ((name, time) for name, time in microseconds.items() if is_ours(name)),
        key=lambda item: item[1],
    )
    return [(name, time) for name, time in ours[:MOST_OF_A_SHAPE] if time <= NEAR * ours[0][1]]


def _kernel_and_config(name: str) -> tuple[str, str]:
    kernel, _, config = name.partition(" ")
    return kernel, config


def _key(row: Measurement, precision: str) -> tuple[object, ...]:
    of_shape = (row.dtype, row.shape)
    return (*of_shape, row.kernel, row.config) if precision == FP16_ACCUMULATION else of_shape


def one_row_a_line(table: Table) -> str:
    document = table.document()
    rows = ",\n  ".join(json.dumps(row) for row in document.pop("measurements"))
    head = json.dumps(document, indent=1).removesuffix("\n}")
    return f'{head},\n "measurements": [\n  {rows}\n ]\n}}\n'
