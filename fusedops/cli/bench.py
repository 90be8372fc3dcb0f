"""Time every kernel that can run, beside F.linear and plain PyTorch."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import runpy
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch

from fusedops import backends, gemm_sig_res
from fusedops.cli import arguments
from fusedops.cli.run import SCALE, plain
from fusedops.numerics import expected_and_bound, fraction_of_bound
from fusedops.plans import describe
from fusedops.registry import Accumulation, Measurement, Table, dtype_name, reasons_against
from fusedops.timing import Call, host_times, interleaved


class Row(TypedDict):
    """One shape's times."""

    shape: arguments.Shape
    microseconds: dict[str, float]


SHAPES = (
    *("1024x8192x8192", "8192x8192x8192", "4096x4096x4096", "2048x2048x2048", "1024x1024x1024"),
    *("16384x4096x4096", "65536x1024x1024", "512x4096x4096", "128x4096x4096", "16x4096x4096"),
    *("4096x14336x4096", "4096x1024x512"),
)
SHAPES_FOR_A_CPU = ("1024x1024x1024", "4096x1024x256", "16x4096x1024", "65536x128x64")
HOST_SHAPE = (16, 64, 64)
QUALIFYING_ROUNDS = 3
QUALIFYING_FACTOR = 1.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shapes", type=arguments.shape, nargs="+", help="MxNxK ...")
    parser.add_argument("--dtype", type=arguments.dtype, help="default: bfloat16, float32 on a CPU")
    parser.add_argument("--device")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--compile", action="store_true", help="time torch.compile as well")
    parser.add_argument("--configs", action="store_true", help="time every configuration")
    parser.add_argument(
        "--beside",
        type=Path,
        help="a Python file with gemm_sig_res(x, weight, bias, scale), to be timed as well",
    )
    parser.add_argument(
        "--table",
        type=Path,
        help="with --configs: write the fastest of each shape as a table for the registry",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")


@torch.no_grad()
def main(args: argparse.Namespace) -> int:
    device = arguments.device(args.device)
    on_gpu = device.type == "cuda"
    dtype = args.dtype or (torch.bfloat16 if on_gpu else torch.float32)
    shapes = args.shapes or list(map(arguments.shape, SHAPES if on_gpu else SHAPES_FOR_A_CPU))
    contender = None
    if args.beside:
        contender = runpy.run_path(str(args.beside))["gemm_sig_res"]
    rows: list[Row] = []
    for size in shapes:
        x, weight, bias = arguments.operands(size, dtype, device)
        calls = yardsticks(x, weight, bias, compiled=args.compile)
        if contender is not None:
            calls[args.beside.stem] = partial(contender, x, weight, bias, SCALE)
        ours = launches(x, weight, bias, every_config=args.configs)
        if args.configs:
            ours = qualified(ours, device)
        times = interleaved({**calls, **ours}, device, rounds=args.rounds)
        rows.append({"shape": size, "microseconds": times})
        show(size, dtype, times)
    host = host_calls(dtype, device)
    print(f"\nhost time per call, {'x'.join(map(str, HOST_SHAPE))}, microseconds")
    for name, microseconds in host.items():
        print(f"  {name:<44}{microseconds:8.1f}")
    if args.table:
        add_to_table(args.table, device, dtype, rows)
    if args.json:
        args.json.write_text(json.dumps(report(device, dtype, rows, host), indent=1) + "\n")
    return 0


def yardsticks(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, compiled: bool
) -> dict[str, Call]:
    """What ours is measured against, and the operator as a user calls it."""
    calls: dict[str, Call] = {
        "F.linear": lambda: torch.nn.functional.linear(x, weight),
        "plain PyTorch": lambda: plain(x, weight, bias),
        "fusedops (auto)": lambda: gemm_sig_res(x, weight, bias, SCALE),
    }
    if compiled:
        torch._dynamo.reset()
        faster = torch.compile(plain)
        calls["torch.compile"] = lambda: faster(x, weight, bias)
    return calls


def launches(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, every_config: bool
) -> dict[str, Call]:
    """The launch of each kernel that can run, by "kernel config".

    Raises RuntimeError for one outside its error bound.
    """
    calls: dict[str, Call] = {}
    problem = describe(x, weight, bias)
    expected_and_bounds: dict[Accumulation, tuple[torch.Tensor, torch.Tensor]] = {}
    out = x.new_empty((problem.m, problem.n))
    for kernel in backends.kernels():
        if reasons_against(kernel, problem, backends.missing()):
            continue
        accumulation = kernel.accumulation(problem)
        if accumulation not in expected_and_bounds:
            expected_and_bounds[accumulation] = expected_and_bound(
                x, weight, bias, SCALE, accumulation
            )
        configs = kernel.configs(problem)
        for config in configs if every_config else configs[:1]:
            launch = kernel.prepare(problem, config)
            out.fill_(float("nan"))
            launch(x, weight, bias, SCALE, out)
            name = f"{kernel.name} {config}" if config is not None else kernel.name
            over = float(fraction_of_bound(out, *expected_and_bounds[accumulation]).max())
            if over > 1:
                raise RuntimeError(f"{name} is {over:.1f} times outside its bound: {problem}")
            calls[name] = partial(launch, x, weight, bias, SCALE, out)
    return calls


def qualified(calls: dict[str, Call], device: torch.device) -> dict[str, Call]:
    """The configurations near the front, and each kernel's best: the rest need no exact time."""
    times = interleaved(calls, device, rounds=QUALIFYING_ROUNDS, warmup=1)
    best: dict[str, float] = {}
    for name, time in times.items():
        kernel = name.split(" ")[0]
        best[kernel] = min(time, best.get(kernel, time))
    front = QUALIFYING_FACTOR * min(times.values())
    return {
        name: calls[name]
        for name, time in times.items()
        if time <= front or time == best[name.split(" ")[0]]
    }


def host_calls(dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """The host's time per call of a problem too small for the card to matter."""
    x, weight, bias = arguments.operands(HOST_SHAPE, dtype, device)
    calls: dict[str, Call] = {
        "F.linear": lambda: torch.nn.functional.linear(x, weight, bias),
        "plain PyTorch": lambda: plain(x, weight, bias),
        "torch.ops.fusedops.gemm_sig_res": lambda: torch.ops.fusedops.gemm_sig_res(
            x, weight, bias, SCALE
        ),
        "fusedops.gemm_sig_res": lambda: gemm_sig_res(x, weight, bias, SCALE),
    }
    problem = describe(x, weight, bias)
    for kernel in backends.kernels():
        if not reasons_against(kernel, problem, backends.missing()):
            calls[f"  backend={kernel.name!r}"] = partial(
                gemm_sig_res, x, weight, bias, SCALE, backend=kernel.name
            )
    return host_times(calls, device)


def show(size: Sequence[int], dtype: torch.dtype, times: dict[str, float]) -> None:
    print(f"\n{'x'.join(map(str, size))} {dtype_name(dtype)}: microseconds, F.linear / it")
    for name, microseconds in times.items():
        print(f"  {name:<60}{microseconds:9.1f}{times['F.linear'] / microseconds:7.2f}")


def report(
    device: torch.device, dtype: torch.dtype, rows: list[Row], host: dict[str, float]
) -> dict[str, object]:
    """The figures with what they need to be reproduced."""
    on_gpu = device.type == "cuda"
    return {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor(),
        "torch": torch.__version__,
        "triton": _triton_version(),
        "threads": torch.get_num_threads(),
        "command": command(),
        "dtype": dtype_name(dtype),
        "rows": rows,
        "host_microseconds": host,
    }


def add_to_table(path: Path, device: torch.device, dtype: torch.dtype, rows: list[Row]) -> None:
    """Write the fastest configuration of each shape; keep what the file has of other dtypes."""
    problem = describe(*arguments.operands((1, 1, 1), dtype, device))
    before = Table.parse(json.loads(path.read_text())).measurements if path.exists() else ()
    kept = tuple(row for row in before if row.dtype != dtype_name(dtype))
    names = {kernel.name for kernel in backends.kernels()}
    fastest = []
    for row in rows:
        ours = {k: v for k, v in row["microseconds"].items() if k.split(" ")[0] in names}
        best = min(ours, key=ours.__getitem__)
        kernel, _, config = best.partition(" ")
        fastest.append(Measurement(*row["shape"], dtype_name(dtype), kernel, config, ours[best]))
    origin = (
        f"{datetime.date.today().isoformat()}, torch {torch.__version__}, triton "
        f"{_triton_version()}: {command()}"
    )
    assert problem.capability is not None, "a table is a card's"
    table = Table(problem.device_name, problem.capability, origin, (*kept, *fastest))
    path.write_text(json.dumps(table.document(), indent=1) + "\n")


def command() -> str:
    """This command as another would type it: without the shapes, which are in the rows."""
    words = sys.argv[1:]
    if "--shapes" in words:
        first = words.index("--shapes")
        last = first + 1
        while last < len(words) and not words[last].startswith("--"):
            last += 1
        words = [*words[: first + 1], "...", *words[last:]]
    return "python -m fusedops " + " ".join(Path(word).name for word in words)


def _triton_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triton")
    except PackageNotFoundError:
        return None
