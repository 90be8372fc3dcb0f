"""The kernels of the gradient with respect to z, beside what memory allows.

    python benchmarks/backward.py --json backward.json

Each reads the gradient of y, and y or, for a scale of 20, z, and writes dz and the sums of its
columns. "Triad" reads the same two matrices and writes their exclusive or; the floor is 4.3 TB/s.
Candidates in turn, in a random order, each after a read of 512 MiB (which leaves nothing dirty in
the L2); microseconds, medians over rounds. First each result is held to its bound, over NaN.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fusedops import backends
from fusedops.bench.report import device_name, versions
from fusedops.numerics import expected_and_bound_of_gradients, fraction_of_bound
from fusedops.plans import device_facts
from fusedops.recovery import recovery_steps
from fusedops.registry import backward_problem, dtype_name, reasons_against

SHAPES = {
    torch.bfloat16: ((65536, 1024), (1024, 8192), (8192, 4096), (4096, 14336)),
    torch.float32: ((8192, 4096),),
}
SCALES = (2.0, 5.0, 20.0)
BYTES_PER_MICROSECOND = 4.3e6
CHECKED_ELEMENTS = 1 << 26


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--configs", action="store_true", help="time every configuration")
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        print("this needs a CUDA card")
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    rows = []
    for dtype, shapes in SHAPES.items():
        for m, n in shapes:
            for scale in SCALES:
                rows.append(measured(m, n, dtype, scale, device, chosen))
                print(line(rows[-1]), flush=True)
    if chosen.json:
        report = {
            "date": datetime.date.today().isoformat(),
            "device": device_name(device),
            "versions": versions(),
            "command": "python benchmarks/backward.py" + (" --configs" * chosen.configs),
            "rounds": chosen.rounds,
            "rows": rows,
        }
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(row["wrong"] for row in rows) else 0


def measured(
    m: int,
    n: int,
    dtype: torch.dtype,
    scale: float,
    device: torch.device,
    chosen: argparse.Namespace,
) -> dict[str, Any]:
    """Errors and times of every candidate at one shape."""
    steps = recovery_steps(scale, dtype) or 0
    grad, saved = (torch.randn(m, n, device=device).to(dtype) for _ in range(2))
    dz, dbias = torch.empty_like(grad), grad.new_empty(n)
    problem = backward_problem(m, n, dtype, steps=steps, bias_dtype=dtype, **device_facts(device))
    bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    calls: dict[str, Callable[[], object]] = {
        "triad": partial(
            torch.bitwise_xor, grad.view(bits), saved.view(bits), out=dz.clone().view(bits)
        ),
        "sum(0)": partial(torch.sum, grad, 0),
    }
    wrong = {}
    for kernel in backends.backward_kernels():
        if kernel.backend not in ("cuda", "triton") or reasons_against(
            kernel, problem, backends.missing()
        ):
            continue
        configs = kernel.configs(problem)
        for config in configs if chosen.configs else configs[:1]:
            launch = kernel.prepare(problem, config)
            name = f"{kernel.name} {config}"
            dz.fill_(float("nan"))
            dbias.fill_(float("nan"))
            launch(grad, saved, scale, dz, dbias, None)
            rows = CHECKED_ELEMENTS // n
            exact, bound = expected_and_bound_of_gradients(
                grad[:rows], saved[:rows], scale, kernel.accumulation(problem), from_y=bool(steps)
            )
            worst = float(fraction_of_bound(dz[:rows], exact.dz, bound.dz).max())
            if m <= rows:
                worst = max(worst, float(fraction_of_bound(dbias, exact.dbias, bound.dbias).max()))
            del exact, bound
            if worst <= 1:
                calls[name] = partial(launch, grad, saved, scale, dz, dbias, None)
            else:
                wrong[name] = worst
    return {
        "shape": [m, n],
        "dtype": dtype_name(dtype),
        "scale": scale,
        "steps": steps,
        "floor": round(3 * m * n * dtype.itemsize / BYTES_PER_MICROSECOND, 1),
        "microseconds": in_turn(calls, device, chosen.rounds),
        "wrong": wrong,
    }


def in_turn(
    calls: dict[str, Callable[[], object]], device: torch.device, rounds: int
) -> dict[str, float]:
    flushed = torch.zeros(512 << 18, dtype=torch.int32, device=device)
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = list(calls.items()), random.Random(0).shuffle
    for turn in range(rounds + 1):
        shuffle(order)
        for name, call in order:
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            flushed.amax()
            start.record()
            call()
            stop.record()
            stop.synchronize()
            if turn:
                times[name].append(start.elapsed_time(stop) * 1e3)
    return {name: round(statistics.median(each), 1) for name, each in times.items()}


def line(row: dict[str, Any]) -> str:
    cells = "  ".join(
        f"{name} {time} ({100 * row['floor'] / time:.0f} %)"
        for name, time in row["microseconds"].items()
    )
    wrong = f"  WRONG: {row['wrong']}" if row["wrong"] else ""
    return "{}x{} {} scale {}: floor {}  {}{}".format(
        *row["shape"], row["dtype"], row["scale"], row["floor"], cells, wrong
    )


if __name__ == "__main__":
    raise SystemExit(main())
