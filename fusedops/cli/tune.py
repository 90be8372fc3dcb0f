"""Search a kernel's configurations for the fastest, on this card or, compiled alone, for another.

Each candidate is compiled and its registers, spills and occupancy are read; it is checked against
the error bound, and timed in turn with the best so far. A change is kept if it gains 2 % and more
than the noise. With --target nothing is timed. Trials are journalled in --out: the same command
goes on where it was interrupted. Exit status: 1 where a candidate of ours was wrong or a search
failed, 2 where the request makes no sense here or a named kernel can run none of the shapes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from fusedops.bench.peaks import FP16_ACCUMULATION
from fusedops.bench.report import microseconds
from fusedops.bench.workload import shape_name
from fusedops.cli import arguments
from fusedops.cli.tune_request import ALL, names, nonsense, wanted
from fusedops.registry import CARDS
from fusedops.tune.judge import LEAST_ROUNDS
from fusedops.tune.trial import WRONG, Session

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
    parser.add_argument(
        "--rounds",
        type=arguments.positive,
        default=15,
        help=f"{LEAST_ROUNDS} or more; default: 15",
    )
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
        return _refuse(complaint)
    from filelock import FileLock, Timeout

    try:
        with FileLock(args.out / ".lock", timeout=0):
            return _tune(args)
    except Timeout:
        return _refuse(f"another run is at work in {args.out}: give this one another --out")


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return 2


def _tune(args: argparse.Namespace) -> int:
    from fusedops.cli.bench import allow
    from fusedops.tune.plan import Plan
    from fusedops.tune.progress import watcher
    from fusedops.tune.session import Tuning
    from fusedops.tune.workbench import CardLost

    precision = allow(args.allow_tf32, args.allow_fp16_accumulation)
    plan = Plan(
        shapes=list(dict.fromkeys(shape for each in args.shape for shape in each)),
        dtype=args.dtype,
        kernels=wanted(names(args.kernel)),
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
    unable = [each.name for each in plan.kernels if each.name not in tuning.searched]
    if not (tuning.searched or tuning.record.failed or status):
        return _refuse("nothing was tuned, for the reasons above")
    session = tuning.session()
    print(summary(session))
    written = _write(session, args.out, args.json)
    status = status or written
    if args.apply:
        status = status or _apply(session)
    wrong = any(trial.verdict == WRONG for trial in session.trials)
    if status or wrong or session.failed:
        return status or 1
    if unable and ALL not in names(args.kernel):
        return _refuse(f"not tuned: {', '.join(unable)}, for the reasons above")
    return 0


def _write(session: Session, folder: Path, copy: Path | None) -> int:
    """Each of the files, though another cannot be written."""
    from fusedops.tune import report

    status = 0
    for path in (folder / "session.json", copy):
        if path is not None:
            try:
                session.write(path)
            except OSError as error:
                status = _refuse(f"{path} cannot be written: {error.strerror}")
    try:
        print(f"report: {report.write(session, folder)}")
    except OSError as error:
        status = _refuse(f"the report cannot be written: {error.strerror}")
    return status


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
        lines.append(session.without_best())
    elif session.ended:
        lines.append(f"that is the best so far: {session.ended}")
    return "\n".join(lines)
