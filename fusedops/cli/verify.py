"""Check every kernel this machine can run against the error bound, on drawn examples.

Exit status: 0 when every property holds for every available kernel, 1 when one does not or a kernel
was not exercised, 2 when the request itself makes no sense.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from fusedops import backends
from fusedops.cli import arguments
from fusedops.registry import BACKENDS

if TYPE_CHECKING:
    from fusedops.verify.report import Report
    from fusedops.verify.runner import Plan, Tally

Step = Callable[["Tally"], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--examples", type=arguments.positive, default=200, help="for each kernel (default 200)"
    )
    parser.add_argument("--backend", choices=("auto", *BACKENDS), help="only this backend")
    parser.add_argument("--kernel", help="only this kernel")
    parser.add_argument("--case", help="replay one example, as a failure printed it")
    parser.add_argument("--epilogue", action="store_true", help="only the table of all 16-bit z")
    parser.add_argument("--no-epilogue", action="store_true", help="leave that table out")
    parser.add_argument(
        "--largest", type=arguments.positive, help="cap on every size, where a tool slows it down"
    )
    parser.add_argument(
        "--tight", action="store_true", help="no surroundings: for compute-sanitizer"
    )
    parser.add_argument("--seed", type=int, help="of the run (default: drawn, and printed)")
    parser.add_argument("--device", help="default: the card if there is one, else the CPU")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def main(args: argparse.Namespace) -> int:
    device = arguments.device(args.device)
    names = [kernel.name for kernel in backends.kernels()]
    if args.kernel is not None and args.kernel not in names:
        return _refuse(f"unknown kernel {args.kernel!r}; known: {', '.join(names)}")
    if args.case is not None:
        return _replay(args.kernel, args.backend, args.case, device)
    try:
        from fusedops.verify.runner import Plan
    except ModuleNotFoundError as error:
        return _refuse(f"{error}; install it with: pip install fusedops[verify]")
    seed = secrets.randbits(32) if args.seed is None else args.seed
    plan = Plan(device, args.examples, seed, largest=args.largest)
    if args.tight:
        plan = replace(plan, guard=0)
    report = _run(args, plan)
    print(json.dumps(report.as_json(), indent=1) if args.json else report.as_text())
    if not args.json:
        verdict = "FAILED" if report.complaints else "passed"
        print(f"\n{verdict} on {device}, seed {seed}, {args.examples} examples each")
    return 1 if report.complaints else 0


def _run(args: argparse.Namespace, plan: Plan) -> Report:
    from fusedops.verify.exhaustive import epilogue_errors
    from fusedops.verify.failure import DeviceLost, Failure
    from fusedops.verify.properties import available_backends
    from fusedops.verify.report import Report
    from fusedops.verify.runner import available_kernels, verify_kernel, verify_op

    wanted = [
        kernel
        for kernel in backends.kernels()
        if args.kernel in (None, kernel.name) and args.backend in (None, "auto", kernel.backend)
    ]
    present, absent = available_kernels(plan.device, wanted)
    report = Report(plan, tallies=absent)
    try:
        if not args.epilogue:
            for kernel in present if args.backend != "auto" else []:
                with _progress(kernel.name, plan.examples) as step:
                    report.tallies.append(verify_kernel(kernel, plan, step))
            for backend in available_backends(plan.device) if args.kernel is None else ():
                if args.backend in (None, backend):
                    with _progress(f"operator, {backend}", plan.examples) as step:
                        report.tallies.append(verify_op(backend, plan, step))
        for kernel in [] if args.no_epilogue else present:
            try:
                with _progress(f"epilogue, {kernel.name}", 0):
                    report.epilogue += epilogue_errors(kernel, plan.device)
            except Failure as failure:
                report.epilogue_failures.append(failure)
    except DeviceLost as lost:
        report.fatal = f"{lost}\n  the card is lost to this process; the rest was not run"
    return report


def _replay(kernel_name: str | None, backend: str | None, text: str, device: torch.device) -> int:
    from fusedops.verify import Case, DeviceLost, Failure, check_kernel, check_op

    if (kernel_name is None) == (backend is None):
        return _refuse("--case needs either --kernel or --backend")
    try:
        case = Case.parse(text)
    except ValueError as error:
        return _refuse(str(error))
    try:
        if kernel_name is not None:
            kernel = next(each for each in backends.kernels() if each.name == kernel_name)
            fraction: float | None = check_kernel(kernel, case, device)
        else:
            fraction = check_op(case, backend or "auto", device)
    except (Failure, DeviceLost) as failure:
        print(failure)
        return 1
    outcome = "refused" if fraction is None else f"holds: worst error {fraction:.3f} of the bound"
    print(f"{kernel_name or backend}: {outcome}")
    return 0


@contextmanager
def _progress(label: str, total: int) -> Iterator[Step]:
    """A bar where rich is installed and someone watches; else a line."""
    if not sys.stderr.isatty():
        print(f"{label} ...", file=sys.stderr)
        yield lambda tally: None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        print(f"{label} ...", file=sys.stderr)
        yield lambda tally: None
        return
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total or None)
        yield lambda tally: bar.update(task, completed=tally.examples)


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
