"""Search a kernel's configurations for the fastest, on this card or, compiled alone, for another.

Each candidate is compiled and its registers, spills and occupancy are read; it is checked against
the error bound, and timed in turn with the best so far. A change is kept if it gains 2 % and more
than the noise. With --target nothing is timed. Trials are journalled in --out: the same command
goes on where it was interrupted. Exit status: 1 where a candidate of ours was wrong, 2 where the
request makes no sense here.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from fusedops import backends
from fusedops.bench.peaks import FP16_ACCUMULATION
from fusedops.bench.report import microseconds
from fusedops.bench.workload import shape_name
from fusedops.cli import arguments
from fusedops.registry import CARDS, Kernel
from fusedops.tune.trial import WRONG, Session

ALL = "all"
MOST_JOBS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape",
        type=arguments.shapes,
        nargs="+",
        required=True,
        help="MxNxK, separated by commas or spaces; of a gradient M and N count",
    )
    parser.add_argument("--dtype", type=arguments.dtype, default=torch.bfloat16)
    parser.add_argument(
        "--kernel",
        default=ALL,
        help="names, separated by commas, or all (the default): every one of the operator's",
    )
    parser.add_argument(
        "--target", choices=CARDS, help="compile for a card that need not be here; time nothing"
    )
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="start no candidate after so long"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("tuned"),
        metavar="DIR",
        help="for the journals, the session and its report (default: tuned)",
    )
    parser.add_argument(
        "--exhaustive", action="store_true", help="try the whole space, to hold a search to"
    )
    parser.add_argument(
        "--jobs",
        type=arguments.positive,
        default=max(1, min(MOST_JOBS, (os.cpu_count() or 1) // 2)),
        help="processes that compile ahead (default here: %(default)s)",
    )
    parser.add_argument("--rounds", type=arguments.positive, default=15, help="default: 15")
    parser.add_argument(
        "--ncu", action="store_true", help="have Nsight Compute look at what is adopted"
    )
    parser.add_argument(
        "--apply", action="store_true", help="write what was found into your table of the card"
    )
    arguments.add_switches(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the session there as well")


@torch.no_grad()
def main(args: argparse.Namespace) -> int:
    if complaint := next(nonsense(args), None):
        print(complaint, file=sys.stderr)
        return 2
    from fusedops.cli.bench import allow
    from fusedops.tune.plan import Plan
    from fusedops.tune.progress import watcher
    from fusedops.tune.session import Tuning
    from fusedops.tune.workbench import CardLost

    precision = allow(args.allow_tf32, args.allow_fp16_accumulation)
    plan = Plan(
        shapes=list(dict.fromkeys(shape for each in args.shape for shape in each)),
        dtype=args.dtype,
        kernels=wanted(args.kernel),
        device=torch.device("cpu" if args.target else "cuda"),
        target=CARDS[args.target] if args.target else None,
        architecture=args.target or "",
        budget=args.budget,
        folder=args.out,
        exhaustive=args.exhaustive,
        jobs=args.jobs,
        rounds=args.rounds,
        allow_fp16_accumulation=precision == FP16_ACCUMULATION,
        ncu=args.ncu,
    )
    status = 0
    with watcher() as watch:
        tuning = Tuning(plan, watch)
        try:
            tuning.run()
        except KeyboardInterrupt:
            status = _cut_short("interrupted", args.out, 130)
        except CardLost as lost:
            status = _cut_short(f"the card answers no more, {lost}", args.out, 1)
    from fusedops.tune import report

    session = tuning.session()
    for path in (args.out / "session.json", args.json):
        if path is not None:
            session.write(path)
    print(summary(session))
    print(f"report: {report.write(session, args.out)}")
    if args.apply:
        status = status or _apply(session)
    wrong = any(trial.verdict == WRONG for trial in session.trials)
    return status or int(wrong)


def _apply(session: Session) -> int:
    from fusedops import tables
    from fusedops.tune.rows import rows

    found = rows(session)
    if not found:
        print("nothing to apply: no time was measured of the operator")
        return 0
    try:
        path = tables.apply(found, session.device, session.capability)
    except (OSError, ImportError) as error:
        print(f"--apply: {error}", file=sys.stderr)
        return 2
    print(f"applied: {len(found)} rows in {path}")
    return 0


def _cut_short(why: str, folder: Path, status: int) -> int:
    print(f"{why}; the same command goes on from what is in {folder}", file=sys.stderr)
    return status


def nonsense(args: argparse.Namespace) -> Iterator[str]:
    """Why the request makes no sense, before anything is tried."""
    known = {ALL, *(each.name for each in _every_kernel())}
    unknown = [name for name in args.kernel.split(",") if name not in known]
    if unknown:
        yield f"unknown kernel {', '.join(unknown)}; known: {', '.join(sorted(known))}"
    if complaint := arguments.misplaced_switch(args, args.dtype):
        yield complaint
    if args.target is None and not torch.cuda.is_available():
        yield (
            "there is no CUDA device here, and a CPU's kernels have one configuration each: there "
            f"is nothing to tune. --target {' or '.join(CARDS)} compiles candidates for a card "
            "that need not be here, and chooses by registers and the kernels' own estimates"
        )
    if args.ncu and args.target is not None:
        yield "--ncu looks at a kernel as it runs, and with --target nothing runs"
    if args.apply and args.allow_fp16_accumulation:
        yield "--apply with --allow-fp16-accumulation would leave sums in float32 without a row"
    if args.apply and args.target is not None:
        yield "--apply writes measured times, and with --target nothing is timed"
    if args.budget is not None and not args.budget >= 0:
        yield f"--budget is a number of seconds from 0 up; got {args.budget}"
    for path in (args.out, args.json):
        if path is not None and not os.access(_existing(path.parent), os.W_OK):
            yield f"{path} cannot be written"
    if args.out.exists() and not args.out.is_dir():
        yield f"--out: {args.out} is there, and is no folder"


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return folder


def _every_kernel() -> list[Kernel]:
    return [
        kernel
        for kernel in (*backends.kernels(), *backends.backward_kernels())
        if kernel.backend != "reference"
    ]


def wanted(names: str) -> list[Kernel]:
    """Those of the operator, or those that are named."""
    chosen = names.split(",")
    backward = {kernel.name for kernel in backends.backward_kernels()}
    not_of_all = {each.name for each in _every_kernel() if each.backend == "cpu"} | backward
    return [
        kernel
        for kernel in _every_kernel()
        if kernel.name in chosen or (ALL in chosen and kernel.name not in not_of_all)
    ]


def summary(session: Session) -> str:
    """The best of each kernel, for each shape."""
    lines = [f"{session.device}{' (nothing timed)' if session.target else ''}, {session.method}"]
    for best in (*session.best, *session.others):
        trial = best.trial
        time = best.microseconds or trial.microseconds
        figure = "" if time is None else f"{microseconds(time)} us, "
        found = trial.resources
        if time is None and found is not None:
            figure = f"occupancy {found.occupancy:.0%} by {found.limiter}, "
        lines.append(
            f"{shape_name(trial.shape)} {trial.dtype} {trial.kernel} {trial.config}: {figure}"
            + (f"{best.trials} of {best.of} tried" if best.of else "what the registry takes today")
        )
    if not session.best:
        lines.append("no candidate was found to be right")
    return "\n".join(lines)
