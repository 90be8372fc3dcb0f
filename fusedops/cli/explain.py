"""Say which kernel a problem would run on, why, and why not the others: for any card."""

from __future__ import annotations

import argparse

import torch

from fusedops import backends
from fusedops.cli import arguments
from fusedops.override import asked, request
from fusedops.plans import device_facts
from fusedops.registry import CARDS, Card, NoKernelError, Problem, select
from fusedops.registry.table import table_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", type=arguments.shape, required=True, help="MxNxK")
    parser.add_argument("--dtype", type=arguments.dtype, default=torch.float16)
    parser.add_argument("--backend", help="a backend or a kernel, as the call's argument")
    parser.add_argument(
        "--card",
        choices=["cpu", *CARDS],
        help="ask for a card this machine need not have (default: what it has)",
    )


def main(args: argparse.Namespace) -> int:
    m, n, k = args.shape
    here = args.card is None
    problem = Problem.contiguous(
        m,
        n,
        k,
        args.dtype,
        bias_dtype=args.dtype,
        card=_this_card() if here else CARDS.get(args.card),
    )
    missing = backends.missing() if here else {}
    print(problem)
    try:
        wanted = request(*asked(args.backend))
        choice = select(problem, wanted, backends.kernels(), missing, table_for(problem))
    except (NoKernelError, ValueError) as error:
        print(error)
        return 1
    print(choice.explain())
    return 0


def _this_card() -> Card | None:
    if not torch.cuda.is_available():
        return None
    facts = device_facts(torch.device("cuda", torch.cuda.current_device()))
    return Card(facts["device_name"], facts["capability"], facts["multiprocessors"])
