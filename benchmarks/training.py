"""Forward and backward of the layer, beside the plain linear layer's and torch.compile's.

    python benchmarks/training.py --json training.json

Each candidate computes y, and, from a given gradient of y, those of x, weight and bias:

    linear             F.linear(x, weight, bias), which is less than the operator
    eager, compile     the operator in PyTorch, as it is and compiled
    fusedops           fusedops.gemm_sig_res
    fusedops compiled  the same in torch.compile

Candidates are interleaved in a random order, with a cold L2; microseconds, medians over rounds;
only ratios inside one run mean anything. First each gradient's error, in norm, is held to twice
eager's, or a few roundings. "Alive" is what a forward leaves allocated, in matrices of M x N, y
among them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

import fusedops
from fusedops.bench.report import device_name, versions
from fusedops.bench.workload import SCALE, Shape, eager, operands, shape_name
from fusedops.cli import arguments
from fusedops.registry import dtype_name
from fusedops.timing import interleaved

SHAPES = "1024x8192x8192,8192x4096x4096,65536x1024x1024,4096x14336x4096"
ROUNDINGS = 4
Op = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def fused(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return fusedops.gemm_sig_res(x, weight, bias, SCALE)


OPS: dict[str, Op] = {
    "linear": functional.linear,
    "eager": eager,
    "compile": torch.compile(eager, dynamic=False),
    "fusedops": fused,
    "fusedops compiled": torch.compile(fused, fullgraph=True, dynamic=False),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--shapes", type=arguments.shapes, default=arguments.shapes(SHAPES))
    parser.add_argument("--dtype", type=arguments.dtype, default=torch.bfloat16)
    parser.add_argument("--rounds", type=arguments.positive, default=25)
    parser.add_argument("--device")
    chosen = parser.parse_args()
    device = arguments.device(chosen.device)
    rows: list[dict[str, Any]] = []
    for shape in chosen.shapes:
        rows.append(measured(shape, chosen.dtype, device, chosen.rounds))
        print(line(rows[-1]), flush=True)
    print(f"fusedops / linear, geometric mean: {mean_over_linear(rows):.3f}")
    if chosen.json:
        report = {
            "date": datetime.date.today().isoformat(),
            "device": device_name(device),
            "versions": versions(),
            "command": "python benchmarks/training.py",
            "dtype": dtype_name(chosen.dtype),
            "rounds": chosen.rounds,
            "rows": rows,
        }
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")
    wrong = [name for row in rows for name in row["wrong"]]
    return 1 if wrong else 0


def measured(shape: Shape, dtype: torch.dtype, device: torch.device, rounds: int) -> dict[str, Any]:
    """Errors, times and memory of every candidate at one shape."""
    x, weight, bias = (each.requires_grad_() for each in operands(shape, dtype, device))
    grad = torch.randn(shape[:2], dtype=dtype, device=device)
    exact = both(
        eager,
        *(each.detach().double().requires_grad_() for each in (x, weight, bias)),
        grad.double(),
    )
    errors_of = {
        name: [relative(*pair) for pair in zip(both(op, x, weight, bias, grad), exact, strict=True)]
        for name, op in OPS.items()
        if name != "linear"
    }
    del exact
    wrong = [
        name
        for name, found in errors_of.items()
        for mine, eagers in zip(found, errors_of["eager"], strict=True)
        if not mine <= max(2 * eagers, ROUNDINGS * torch.finfo(dtype).eps)
    ]
    calls = {name: partial(both, op, x, weight, bias, grad) for name, op in OPS.items()}
    return {
        "shape": shape,
        "microseconds": {
            name: round(time, 1) for name, time in interleaved(calls, device, rounds=rounds).items()
        },
        "alive": {name: alive(op, x, weight, bias) for name, op in OPS.items()},
        "kernel": fusedops.explain(x, weight, bias, SCALE).kernel,
        "errors": errors_of,
        "wrong": sorted(set(wrong)),
    }


def both(
    op: Op, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(op(x, weight, bias), (x, weight, bias), grad)


def relative(value: torch.Tensor, exact: torch.Tensor) -> float:
    return float((value.double() - exact).norm() / exact.norm())


def alive(op: Op, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> float | None:
    """Matrices of M x N that a forward leaves on the card."""
    if x.device.type != "cuda":
        return None
    before = torch.cuda.memory_allocated(x.device)
    y = op(x, weight, bias)
    return round((torch.cuda.memory_allocated(x.device) - before) / (y.numel() * y.itemsize), 2)


def mean_over_linear(rows: list[dict[str, Any]]) -> float:
    times = [row["microseconds"] for row in rows]
    return math.prod(each["fusedops"] / each["linear"] for each in times) ** (1 / len(times))


def line(row: dict[str, Any]) -> str:
    times = row["microseconds"]
    cells = "  ".join(
        f"{name} {time:.0f} ({row['alive'][name]} alive)" for name, time in times.items()
    )
    over = times["fusedops"] / times["linear"], times["compile"] / times["fusedops"]
    wrong = f"; WRONG: {', '.join(row['wrong'])}" if row["wrong"] else ""
    return "{}: {}; fusedops/linear {:.3f}, compile/fusedops {:.3f}{}".format(
        shape_name(row["shape"]), cells, *over, wrong
    )


if __name__ == "__main__":
    raise SystemExit(main())
