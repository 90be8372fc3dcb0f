"""Hold Triton source files, or compiled kernels, to the rules of docs/lint.md.

Files are read, not imported; neither Triton nor a card is needed. With --compiled, kernels
of the registry are compiled for a card that need not be here, and their machine code is read. Exit
status: 1 where a rule is broken, 2 where something could not be checked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from fusedops import backends
from fusedops.cli import arguments
from fusedops.lint import SYNTAX, Breach, as_markdown, check_file, uses_triton
from fusedops.registry import CARDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="or a folder of them")
    parser.add_argument("--rules", action="store_true", help="list the rules, as Markdown")
    parser.add_argument("--compiled", metavar="KERNEL", help="a kernel of the registry, or all")
    parser.add_argument("--target", choices=CARDS, default="sm_89", help="default: sm_89")
    parser.add_argument("--shape", type=arguments.shape, help="MxNxK, of the problem compiled for")
    parser.add_argument("--dtype", type=arguments.dtype, help="default: every one it takes")
    parser.add_argument("--json", action="store_true", help="print the breaches as JSON")


def main(args: argparse.Namespace) -> int:
    if args.rules:
        print(as_markdown(), end="")
        return 0
    if complaint := next(nonsense(args), None):
        print(complaint, file=sys.stderr)
        return 2
    return _compiled(args) if args.compiled else _sources(args)


def nonsense(args: argparse.Namespace) -> Iterator[str]:
    """Why the request makes no sense."""
    if bool(args.files) == bool(args.compiled):
        yield "name files to read, or a kernel: --compiled KERNEL, or --compiled all"
    for path in args.files:
        if not path.exists():
            yield f"there is no file {path}"
    names = [kernel.name for kernel in backends.kernels()]
    if args.compiled and args.compiled not in ("all", *names):
        yield f"unknown kernel {args.compiled!r}; known: all, {', '.join(names)}"


def _sources(args: argparse.Namespace) -> int:
    files = list(_python_files(args.files))
    if not files:
        print("there is no Python file in what was named", file=sys.stderr)
        return 2
    try:
        breaches = [breach for path in files for breach in check_file(path)]
    except OSError as error:
        print(f"{error.filename} cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    foreign = [each for each in breaches if each.rule == SYNTAX and not each.file.endswith(".py")]
    if foreign:
        print("\n".join(f"{each.file} is no Python source" for each in foreign), file=sys.stderr)
        return 2
    if args.json:
        print(_as_json(breaches, files=len(files)))
    else:
        with_triton = sum(map(uses_triton, files))
        clean = f"files: {len(files)}, with Triton: {with_triton}, no rule broken"
        print("\n".join(map(str, breaches)) or clean)
    return 1 if breaches else 0


def _python_files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*.py"))
        else:
            yield path


def _compiled(args: argparse.Namespace) -> int:
    from fusedops.lint.machine import Unchecked, check_kernel

    wanted = [each for each in backends.kernels() if args.compiled in ("all", each.name)]
    breaches: list[Breach] = []
    unchecked: dict[str, str] = {}
    checked: dict[str, int] = {}
    for kernel in wanted:
        try:
            found = check_kernel(kernel, CARDS[args.target], args.shape, args.dtype)
        except Unchecked as reason:
            unchecked[kernel.name] = str(reason)
            continue
        breaches += found.breaches
        checked[kernel.name] = found.programs
        if not args.json:
            verdict = "" if found.breaches else ", no rule broken"
            notes = (f"{kernel.name}: note: {note}" for note in found.notes)
            summary = f"{kernel.name}: {found.programs} programs{verdict}"
            print("\n".join([*map(str, found.breaches), *notes, summary]), flush=True)
    if args.json:
        print(_as_json(breaches, programs=checked, unchecked=unchecked))
    else:
        for name, why in unchecked.items():
            print(f"{name}: not checked: {why}")
    if breaches:
        return 1
    return 0 if checked and (args.compiled == "all" or not unchecked) else 2


def _as_json(breaches: list[Breach], **more: object) -> str:
    return json.dumps({"breaches": [each.as_json() for each in breaches], **more}, indent=1)
