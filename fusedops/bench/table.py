"""The registry's table of a card, from the times of every configuration."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from fusedops.bench.measure import is_ours
from fusedops.bench.report import Report
from fusedops.plans import device_facts
from fusedops.registry import Measurement, Table


def add_to_table(path: Path, device: torch.device, report: Report) -> None:
    """Write the fastest configuration of each shape; keep what the file has of other dtypes."""
    before = Table.parse(json.loads(path.read_text())).measurements if path.exists() else ()
    kept = tuple(row for row in before if row.dtype != report.dtype)
    fastest = []
    for row in report.rows:
        ours = {name: time for name, time in row.microseconds.items() if is_ours(name)}
        best = min(ours, key=ours.__getitem__)
        kernel, _, config = best.partition(" ")
        time = round(ours[best], 2)
        fastest.append(Measurement(*row.shape, report.dtype, kernel, config, time))
    packages = ", ".join(f"{name} {each}" for name, each in report.versions.items() if each)
    origin = f"{report.date}, {packages}: {report.command}"
    facts = device_facts(device)
    table = Table(facts["device_name"], facts["capability"], origin, (*kept, *fastest))
    path.write_text(json.dumps(table.document(), indent=1) + "\n")
