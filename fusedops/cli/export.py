"""Write the best Triton kernel for a problem as one file that needs PyTorch and Triton alone.

The file has the kernel, the function that launches it and `class ModelNew(nn.Module)`. It is
generated from the registry's kernel, held to the rules of docs/lint.md, compiled for the target,
which need not be here, and then written; where nothing can be compiled it says so. Exit status: 1
where the file breaks a rule, 2 where there can be no file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from fusedops import backends
from fusedops.cli import arguments
from fusedops.export import Choice, Refused, choose, compiled, document
from fusedops.lint import check_text
from fusedops.lint.machine.tools import Unchecked
from fusedops.registry import CARDS, NoKernelError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", type=arguments.shape, required=True, help="MxNxK")
    parser.add_argument("--dtype", type=arguments.dtype, default=torch.float16)
    parser.add_argument("--target", choices=CARDS, required=True)
    parser.add_argument(
        "--autotune",
        action="store_true",
        help="up to four configurations for Triton's autotuner, a conservative one among them",
    )
    parser.add_argument("--kernel", metavar="NAME", help="default: the fastest that can be a file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")


def main(args: argparse.Namespace) -> int:
    if absent := backends.missing().get("triton"):
        return _refuse(absent)
    try:
        choice = choose(args.shape, args.dtype, CARDS[args.target], args.kernel, many=args.autotune)
    except (Refused, NoKernelError) as refusal:
        return _refuse(str(refusal))
    text = document(choice)
    breaches, notes = _examine(text, args.output, choice)
    if breaches:
        print("\n".join(breaches))
        return 1
    try:
        args.output.write_text(text)
    except OSError as error:
        return _refuse(f"{args.output} cannot be written: {error.strerror}")
    print("\n".join([f"{args.output}: {choice.kernel.name}, because {choice.why}", *notes]))
    return 0


def _examine(text: str, path: Path, choice: Choice) -> tuple[list[str], list[str]]:
    """The rules that the file breaks, and what there is to say of each configuration."""
    breaches = [str(each) for each in check_text(text, str(path))]
    notes = []
    try:
        for each in compiled(text, choice):
            breaches += each.breaches
            notes.append(f"  {each}")
    except Unchecked as reason:
        notes.append(f"  not compiled: {reason}")
    return breaches, notes


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return 2
