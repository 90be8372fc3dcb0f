"""Time every kernel that can run, beside F.linear, PyTorch, torch.compile, QuACK and the seed.

Candidates are interleaved round by round, each call after a flush of the card's L2, or, with
--graph, replayed over more weights than the L2 holds. A table's shapes of up to 64 rows of x are
replayed, its others called. Nothing of ours is timed before it has been held to its error bound.
Exit status: 1 where something of ours broke it, or could not run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from fusedops import backends
from fusedops.bench import report as reports
from fusedops.bench import workload
from fusedops.bench.peaks import FP16_ACCUMULATION, IEEE, TF32, peaks_of
from fusedops.bench.peers import DEFAULT, PEERS, beside
from fusedops.bench.plot import draw, suffixes
from fusedops.bench.suite import EVERY_ROW, NO_ROWS, Suite, ready
from fusedops.bench.table import table_so_far, write_table
from fusedops.bench.workload import Shape, shape_name
from fusedops.cli import arguments
from fusedops.registry import FEW_ROWS, dtype_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shapes", type=arguments.shapes, nargs="+", help="MxNxK, separated by commas or spaces"
    )
    parser.add_argument("--dtype", type=arguments.dtype, help="default: bfloat16, float32 on a CPU")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    parser.add_argument("--rounds", type=arguments.positive, default=25)
    parser.add_argument(
        "--peers",
        type=arguments.names_of(lambda: PEERS),
        default=[PEERS[name] for name in DEFAULT],
        help=f"of {','.join(PEERS)} (default: {','.join(DEFAULT)}); mm is always there",
    )
    parser.add_argument(
        "--kernels",
        type=arguments.names_of(lambda: {kernel.name: kernel for kernel in backends.kernels()}),
        help="only these of ours, separated by commas",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--graph", action="store_true", help="replay CUDA graphs over cold weights: for a small M"
    )
    how.add_argument(
        "--table", type=Path, metavar="FILE", help="with --configs: add to a table of the registry"
    )
    parser.add_argument("--configs", action="store_true", help="time every configuration")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="FILE",
        help="a Python file with gemm_sig_res(x, weight, bias, scale), or one that export wrote, "
        "to be timed as well",
    )
    arguments.add_switches(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them (needs matplotlib)")


@torch.no_grad()
def main(args: argparse.Namespace) -> int:
    device = arguments.device(args.device)
    if complaint := next(nonsense(args, device), None):
        print(complaint, file=sys.stderr)
        return 2
    suite = suite_of(args, device)
    if args.beside and (why := suite.absent.get(args.beside.stem)):
        print(f"--beside: {why}", file=sys.stderr)
        return 2
    before = table_so_far(args.table, device) if args.table else None
    for name, why in suite.absent.items():
        print(f"absent: {name}: {why}")
    columns = reports.Columns([peer.name for peer in suite.peers], suite.able())
    print(f"\nmicroseconds, {dtype_name(suite.dtype)}, {reports.device_name(device)}")
    print(columns.header(), flush=True)
    rows: list[reports.Row] = []
    for row in suite.rows(progress):
        rows.append(row)
        progress("")
        print(columns.row(row), flush=True)
        for name, why in row.failures.items():
            print(f"  not timed: {name}: {why}", flush=True)
        # A long run that is cut short keeps what it has.
        so_far = suite.report(rows, {})
        if args.json:
            so_far.write(args.json)
        if before is not None:
            write_table(args.table, before, so_far)
    host = {} if args.graph else suite.host()
    if host:
        print(f"\nhost microseconds per call, {shape_name(workload.HOST)}")
        for name, microseconds in host.items():
            print(f"  {name:<34}{microseconds:8.1f}")
    report = suite.report(rows, host)
    if args.json:
        report.write(args.json)
    if args.plot:
        draw(report, args.plot)
    peers = {peer.name for peer in suite.peers}
    return 1 if any(name not in peers for row in rows for name in row.failures) else 0


def nonsense(args: argparse.Namespace, device: torch.device) -> Iterator[str]:
    """Why the request makes no sense, before anything is measured."""
    if complaint := arguments.misplaced_switch(args, dtype_of(args, device)):
        yield complaint
    if args.graph and device.type != "cuda":
        yield "--graph replays CUDA graphs: it needs a CUDA device, and this is a CPU"
    if args.table and not (args.configs and device.type == "cuda"):
        yield "--table is for a card, and for --configs: it names the best configuration of all"
    if args.beside and not args.beside.is_file():
        yield f"--beside: there is no file {args.beside}"
    for path in (args.json, args.plot, args.table):
        if path and not os.access(path.parent, os.W_OK):
            yield f"{path} cannot be written: no folder {path.parent} to write to"
        if path and path.exists() and not path.is_file():
            yield f"{path} cannot be written: it is there, and is no file"
    if args.table:
        try:
            table_so_far(args.table, device)
        except ValueError as error:
            yield f"--table: {error}"
    if args.plot and find_spec("matplotlib") is None:
        yield "--plot needs matplotlib: pip install matplotlib, or fusedops[plot]"
    elif args.plot and args.plot.suffix not in suffixes():
        yield f"--plot: {args.plot} ends in none of {' '.join(suffixes())}"


def suite_of(args: argparse.Namespace, device: torch.device) -> Suite:
    dtype = dtype_of(args, device)
    peers, absent = ready(
        [*args.peers, *([beside(args.beside)] if args.beside else [])], device, dtype
    )
    return Suite(
        shapes=[shape for each in args.shapes for shape in each]
        if args.shapes
        else default_shapes(args, device),
        dtype=dtype,
        device=device,
        peers=peers,
        absent=absent,
        kernels=args.kernels or backends.kernels(),
        peaks=peaks_of(device),
        precision=allow(args.allow_tf32, args.allow_fp16_accumulation),
        rounds=args.rounds,
        replayed_rows=EVERY_ROW if args.graph else FEW_ROWS if args.table else NO_ROWS,
        every_config=args.configs,
    )


def dtype_of(args: argparse.Namespace, device: torch.device) -> torch.dtype:
    default = torch.bfloat16 if device.type == "cuda" else torch.float32
    return args.dtype or default


def default_shapes(args: argparse.Namespace, device: torch.device) -> tuple[Shape, ...]:
    if args.graph:
        return workload.SMALL_M
    if args.table:
        return tuple(dict.fromkeys((*workload.GRID, *workload.SMALL_M)))
    return workload.GRID if device.type == "cuda" else workload.FOR_A_CPU


def allow(tf32: bool, fp16_accumulation: bool) -> str:
    """Set PyTorch's switches; their name in the report."""
    if tf32:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        return TF32
    if fp16_accumulation:
        torch.backends.cuda.matmul.allow_fp16_accumulation = True
        return FP16_ACCUMULATION
    return IEEE


def progress(message: str) -> None:
    """On a terminal one line, written over; else a line each."""
    if sys.stderr.isatty():
        print(f"\r\033[K{message}", end="", file=sys.stderr, flush=True)
    elif message:
        print(message, file=sys.stderr, flush=True)
