"""Times cpu.blocked against F.linear alone, the eager op and, if asked, torch.compile of it.

Every shape is checked against the fp64 oracle before it is timed. Candidates are called in turn,
round by round, so that whatever else the machine does falls on all of them.

    python benchmarks/cpu.py --dtype float32 bfloat16 --compile --json cpu.json
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from fusedops import numerics
from fusedops.registry import Accumulation

SHAPES = ["1024,1024,1024", "4096,1024,256", "16,4096,1024", "65536,128,64", "16,64,64"]
DTYPES = ["float32", "bfloat16", "float16", "float64"]
SCALE = 1.5

Candidate = Callable[[], object]


def shape(text: str) -> tuple[int, int, int]:
    m, n, k = (int(size) for size in text.split(","))
    return m, n, k


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--shapes", nargs="+", type=shape, default=[shape(s) for s in SHAPES])
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--threads", type=int, help="torch.set_num_threads")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each shape and dtype")
    parser.add_argument("--compile", action="store_true", help="time torch.compile of the op too")
    parser.add_argument("--isa", help="force one of torch.ops.fusedops_cpu.isas()")
    parser.add_argument("--gemm", choices=["auto", "packed", "torch"], default="auto")
    parser.add_argument("--library", type=Path, help="default: the installed package's")
    parser.add_argument("--json", type=Path, help="write the table here")
    return parser.parse_args()


def load_library(path: Path | None) -> None:
    if path is None:
        import fusedops

        path = Path(fusedops.__file__).parent / "lib" / "libfusedops_torch_cpu.so"
    torch.ops.load_library(str(path))


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def eager(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    z = F.linear(x, weight, bias)
    return z + SCALE * torch.sigmoid(z)


def measured_calls(candidates: dict[str, Candidate], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of single calls, in rounds of one call of each candidate."""
    for call in candidates.values():
        call()
        call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + seconds
    order = list(candidates.items())
    shuffle = random.Random(0).shuffle  # no candidate always meets the heap its neighbour left
    while time.perf_counter() < end or len(times["linear"]) < 5:
        shuffle(order)
        for name, call in order:
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def ratios(times: dict[str, float]) -> dict[str, float]:
    return {name: times["blocked"] / times[name] for name in times if name != "blocked"}


def measure(size: tuple[int, int, int], dtype: torch.dtype, options: Any) -> dict[str, Any]:
    m, n, k = size
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(m, k, generator=generator).to(dtype)
    weight = (torch.randn(n, k, generator=generator) / k**0.5).to(dtype)
    bias = torch.randn(n, generator=generator).to(dtype)

    def blocked() -> torch.Tensor:
        out = x.new_empty(m, n)
        if options.isa is None and options.gemm == "auto":
            torch.ops.fusedops_cpu.launch(x, weight, bias, SCALE, out, m, n, k, k, 1, False)
        else:
            isa = options.isa or torch.ops.fusedops_cpu.isa()
            torch.ops.fusedops_cpu.launch_as(
                isa, options.gemm, x, weight, bias, SCALE, out, m, n, k, k, 1
            )
        return out

    roundoff = numerics.FP64_ROUNDOFF if dtype == torch.float64 else numerics.FP32_ROUNDOFF
    expected, bound = numerics.expected_and_bound(
        x, weight, bias, SCALE, Accumulation(roundoff, 0.0)
    )
    error = float(((blocked().double() - expected).abs() / bound).max())
    if not error <= 1:
        sys.exit(f"{size} {dtype}: error is {error:.3g} of the bound")

    candidates: dict[str, Candidate] = {
        "linear": lambda: F.linear(x, weight, bias),
        "eager": lambda: eager(x, weight, bias),
        "blocked": blocked,
    }
    if options.compile:
        torch.compiler.reset()
        compiled = torch.compile(eager)
        candidates["compile"] = lambda: compiled(x, weight, bias)
    calls = measured_calls(candidates, options.seconds)
    median = {name: statistics.median(times) for name, times in calls.items()}
    best = {name: min(times) for name, times in calls.items()}
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "m": m,
        "n": n,
        "k": k,
        "error_over_bound": error,
        "calls": len(calls["blocked"]),
        "median_milliseconds": median,
        "best_milliseconds": best,
        "median_ratio": ratios(median),
        "best_ratio": ratios(best),
    }


def line(row: dict[str, Any]) -> str:
    size = f"{row['m']},{row['n']},{row['k']}"
    times = "".join(f" {name} {value:.4f}" for name, value in row["median_milliseconds"].items())
    relative = "".join(
        f"  /{name} {value:.2f} ({row['best_ratio'][name]:.2f})"
        for name, value in row["median_ratio"].items()
    )
    return f"{row['dtype']:>8} {size:>14} {times} | blocked{relative}"


@torch.no_grad()
def main() -> None:
    options = arguments()
    load_library(options.library)
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = []
    threads, isa = torch.get_num_threads(), torch.ops.fusedops_cpu.isa()
    print(f"{threads} threads, {isa}: median milliseconds | ratios of medians (of best calls)")
    for name in options.dtype:
        for size in options.shapes:
            rows.append(measure(size, getattr(torch, name), options))
            print(line(rows[-1]), flush=True)
    if options.json:
        report = {
            "date": datetime.date.today().isoformat(),
            "cpu": cpu_model(),
            "isa": options.isa or torch.ops.fusedops_cpu.isa(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "command": shlex.join(["python", *sys.argv]),
            "rows": rows,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
