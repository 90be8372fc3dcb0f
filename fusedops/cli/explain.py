"""Say which kernel a problem would run on, why, and why not the others: for any card."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace

import torch

from fusedops import backends
from fusedops.cli import arguments
from fusedops.override import asked, request, wants_invariance
from fusedops.plans import device_facts
from fusedops.registry import CARDS, Card, NoKernelError, Problem, explain
from fusedops.tables import table_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("m", "n", "k"):
        parser.add_argument(f"--{name}", type=arguments.positive, required=True)
    parser.add_argument("--dtype", type=arguments.dtype, default=torch.float16)
    arguments.add_switches(parser)
    parser.add_argument("--backend", help="a backend or a kernel, as the call's argument")
    parser.add_argument(
        "--arch",
        choices=["cpu", *CARDS],
        help="ask for a card this machine need not have (default: what it has)",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def main(args: argparse.Namespace) -> int:
    if complaint := arguments.misplaced_switch(args, args.dtype):
        print(complaint, file=sys.stderr)
        return 2
    here = args.arch is None
    card = _this_card() if here else CARDS.get(args.arch)
    missing = backends.missing() if here else {}
    try:
        problem = _problem(args, card)
        wanted = request(*asked(args.backend))
        answer = explain(problem, wanted, backends.kernels(), missing, table_for(problem))
    except (NoKernelError, ValueError) as error:
        print(json.dumps({"error": str(error)}) if args.json else error)
        return 1
    print(json.dumps(asdict(answer), indent=1) if args.json else answer)
    unbuilt = backends.missing().get("cuda")
    if not here and not any(each.backend == "cuda" for each in backends.kernels()):
        print(f"(without the compiled kernels: {unbuilt})", file=sys.stderr)
    return 0


def _problem(args: argparse.Namespace, card: Card | None) -> Problem:
    problem = Problem.contiguous(
        args.m, args.n, args.k, args.dtype, bias_dtype=args.dtype, card=card
    )
    return replace(
        problem,
        fp32_precision="tf32" if args.allow_tf32 else problem.fp32_precision,
        allow_fp16_accumulation=args.allow_fp16_accumulation,
        batch_invariant=wants_invariance(),
    )


def _this_card() -> Card | None:
    if not torch.cuda.is_available():
        return None
    facts = device_facts(torch.device("cuda", torch.cuda.current_device()))
    return Card(facts["device_name"], facts["capability"], facts["multiprocessors"])
