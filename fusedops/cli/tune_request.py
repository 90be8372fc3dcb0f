"""What the tuner is asked for: which kernels, and whether it makes sense here."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import torch

from fusedops import backends
from fusedops.cli import arguments, writable
from fusedops.registry import CARDS, Kernel
from fusedops.tune.judge import LEAST_ROUNDS

ALL = "all"


def nonsense(args: argparse.Namespace) -> Iterator[str]:
    """Why the request makes no sense, before anything is tried."""
    yield from _misnamed(names(args.kernel))
    if args.rounds < LEAST_ROUNDS:
        yield (
            f"--rounds is {LEAST_ROUNDS} or more: fewer have no interval that holds the true ratio "
            f"with 95 %; got {args.rounds}"
        )
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
    if args.json is not None and (why := writable.why_no_file(args.json)):
        yield f"--json: {args.json} cannot be written: {why}"
    for folder in (args.out, args.out / "journal"):
        if why := writable.why_no_folder(folder):
            yield f"--out: {folder} cannot be written to: {why}"


def _misnamed(chosen: Sequence[str]) -> Iterator[str]:
    ours = {ALL, *(each.name for each in _every_kernel())}
    pytorchs = {each.name for each in _every_kernel(of_pytorch=True)}
    for name in chosen:
        if name in pytorchs:
            yield f"{name} is PyTorch's own operations: there is nothing to tune"
    unknown = [name for name in chosen if name not in ours]
    if unknown or not chosen:
        which = f"unknown kernel {', '.join(unknown)}" if unknown else "--kernel names no kernel"
        yield f"{which}; known: {', '.join(sorted(ours))}"


def _every_kernel(*, of_pytorch: bool = False) -> list[Kernel]:
    every = (*backends.kernels(), *backends.backward_kernels())
    return [each for each in every if (each.backend == "reference") == of_pytorch]


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def wanted(chosen: Sequence[str]) -> list[Kernel]:
    """Those of the operator, or those that are named."""
    backward = {kernel.name for kernel in backends.backward_kernels()}
    not_of_all = {each.name for each in _every_kernel() if each.backend == "cpu"} | backward
    return [
        kernel
        for kernel in _every_kernel()
        if kernel.name in chosen or (ALL in chosen and kernel.name not in not_of_all)
    ]
