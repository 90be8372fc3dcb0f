"""How well a table speaks for shapes that it does not hold: each of its own, left out in turn.

python benchmarks/left_out.py registry/tables/nvidia_h200.json

For each arithmetic: what the configuration chosen without the shape's own rows takes there, over
the fastest, in the mean. A choice that the shape does not list took longer than all that it does,
most often NEAR times the fastest's time or more: it counts as NEAR.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from fusedops import backends
from fusedops.bench.peaks import TF32
from fusedops.registry import CARDS, Problem, Table
from fusedops.registry.table import NEAR


def problem_of(table: Table, arithmetic: str, shape: tuple[int, int, int]) -> Problem:
    dtype = torch.float32 if arithmetic == TF32 else getattr(torch, arithmetic)
    card = next((each for each in CARDS.values() if each.name == table.device), None)
    if card is None:
        raise SystemExit(f"what a {table.device} has is not known here")
    problem = Problem.contiguous(*shape, dtype, bias_dtype=dtype, card=card)
    return replace(problem, fp32_precision="tf32") if arithmetic == TF32 else problem


def losses(table: Table, arithmetic: str) -> Iterator[float | None]:
    """At each shape, the choice's time over the fastest; None where the shape does not list it."""
    kernels = backends.kernels()
    rows = [row for row in table.measurements if row.dtype == arithmetic]
    for shape in dict.fromkeys(row.shape for row in rows):
        others = replace(table, measurements=tuple(row for row in rows if row.shape != shape))
        problem = problem_of(table, arithmetic, shape)
        able = [kernel for kernel in kernels if not kernel.why_not(problem)]
        known = {(row.kernel, row.config): row.microseconds for row in rows if row.shape == shape}
        chosen = [(each.kernel.name, str(each.config)) for each in others.predict(problem, able)]
        time = known.get(chosen[0]) if chosen else None
        yield None if time is None else time / min(known.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    table = Table.read(parser.parse_args().table)
    for arithmetic in dict.fromkeys(row.dtype for row in table.measurements):
        found = list(losses(table, arithmetic))
        unlisted = found.count(None)
        mean = math.fsum(NEAR if each is None else each for each in found) / len(found)
        print(
            f"{arithmetic}: {len(found)} shapes, {100 * (mean - 1):.1f} % over the fastest, "
            f"{unlisted} choices not listed"
        )


if __name__ == "__main__":
    main()
