"""How far a tuned configuration is from the fastest of its space, and in how many trials.

python benchmarks/tune_against_exhaustive.py FOLDER [--seconds N] [--kernels A,B] [--shapes ...]

For each shape and dtype every configuration of each kernel is tried (tune's --exhaustive), then the
search is run over the same space, and both ends are timed together. FOLDER gets
against_exhaustive.json, the searches' session.json and its report, written anew after each cell; a
run that is cut short goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fusedops import backends
from fusedops.bench.report import device_name, versions
from fusedops.cli import arguments
from fusedops.files import write_whole
from fusedops.registry import Card, Kernel, dtype_name
from fusedops.timing import samples
from fusedops.tune import report, work
from fusedops.tune.card import CardBench
from fusedops.tune.judge import compare
from fusedops.tune.plan import Plan, problem_on
from fusedops.tune.pool import Pool
from fusedops.tune.progress import Lines
from fusedops.tune.session import Tuning
from fusedops.tune.trial import Session, Shape

SHAPES: tuple[Shape, ...] = (
    *((1024, 8192, 8192), (4096, 4096, 4096), (2048, 2048, 2048)),
    *((1536, 6144, 4096), (640, 5120, 5120), (6144, 1536, 8192)),
)
"""The first three are in the shipped table of an H200, so a search starts from what was measured;
the others are not, nor are their sizes."""
DTYPES = (torch.float16, torch.bfloat16)
KERNELS = (
    "triton.persistent_tma",
    *("cuda.sm90_cooperative", "cuda.sm90_pingpong", "cuda.sm90_transposed"),
    "cuda.sm80_multistage",
)
DEVICE = torch.device("cuda")
NO_PLOTS = "`fusedops.tune.report.write(Session.read(...), folder)` draws plots beside it."
JOBS, ROUNDS = 14, 15


class Quiet(Lines):
    """Searches alone, not every trial."""

    def tried(self, trial: Any) -> None:
        pass

    def skipped(self, what: str, why: str) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=390.0, help="begin no cell after so long")
    parser.add_argument("--kernels", default=",".join(KERNELS))
    parser.add_argument("--shapes", type=arguments.shapes, default=list(SHAPES))
    parser.add_argument("--jobs", type=arguments.positive, default=JOBS)
    args = parser.parse_args()
    names = args.kernels.split(",")
    kernels = [each for each in backends.kernels() if each.name in names]
    args.folder.mkdir(parents=True, exist_ok=True)
    path = args.folder / "against_exhaustive.json"
    cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"] if path.exists() else []
    done = {(tuple(each["shape"]), each["dtype"]) for each in cells}
    end = time.monotonic() + args.seconds
    pool = Pool(args.jobs)
    compile_ahead(args.shapes[0], kernels, pool)
    with torch.no_grad():
        for shape in args.shapes:
            for dtype in DTYPES:
                if (shape, dtype_name(dtype)) in done or time.monotonic() > end:
                    continue
                found, session = cell(shape, dtype, kernels, args.folder, pool, end)
                cells.append(found)
                keep(session, args.folder)
                document = {
                    "date": session.date,
                    "device": device_name(DEVICE),
                    "versions": versions(),
                    "rounds": ROUNDS,
                    "cells": cells,
                }
                write_whole(path, json.dumps(document, indent=1) + "\n")
                print(line(cells[-1]), flush=True)
    pool.close()


def compile_ahead(shape: Shape, kernels: list[Kernel], pool: Pool) -> None:
    """Most shapes share their code: all of it is made while the first is measured."""
    facts = torch.cuda.get_device_properties(0)
    card = Card(facts.name, (facts.major, facts.minor), facts.multi_processor_count)
    for dtype in DTYPES:
        for kernel in kernels:
            problem = problem_on(card, shape, dtype, kernel)
            if not kernel.why_not(problem):
                pool.expect(kernel, problem, kernel.tuned_over(problem).configs)


def keep(session: Session, folder: Path) -> None:
    """Add a cell's searches to those of the folder."""
    path = folder / "session.json"
    session = replace(session, command="python benchmarks/tune_against_exhaustive.py")
    if path.exists():
        before = Session.read(path)
        session = replace(
            session,
            trials=(*before.trials, *session.trials),
            best=(*before.best, *session.best),
            skipped={**(before.skipped or {}), **(session.skipped or {})},
            failed={**(before.failed or {}), **(session.failed or {})},
        )
    session.write(path)
    write_whole(folder / report.NAME, report.as_markdown(session, {}, NO_PLOTS))


def cell(
    shape: Shape, dtype: torch.dtype, kernels: list[Kernel], folder: Path, pool: Pool, end: float
) -> tuple[dict[str, Any], Session]:
    """Both ways over one problem, and their ends timed together."""
    plan = Plan([shape], dtype, kernels, DEVICE, folder=folder, rounds=ROUNDS)
    whole, whole_seconds = run(replace(plan, exhaustive=True, budget=end - time.monotonic()), pool)
    tuned, tuned_seconds = run(plan, pool)
    found = {
        **{"shape": shape, "dtype": dtype_name(dtype)},
        **{"exhaustive_seconds": round(whole_seconds), "tuned_seconds": round(tuned_seconds)},
        "trials": sum(best.trials for best in tuned.best),
        "of": sum(best.of for best in whole.best),
        "exhaustive_trials": sum(best.trials for best in whole.best),
        **ends(shape, dtype, kernels, whole, tuned),
    }
    return found, tuned


def run(plan: Plan, pool: Pool) -> tuple[Session, float]:
    start = time.monotonic()
    tuning = Tuning(plan, Quiet(), pool)
    tuning.run()
    return tuning.session(), time.monotonic() - start


def ends(
    shape: Shape, dtype: torch.dtype, kernels: list[Kernel], whole: Session, tuned: Session
) -> dict[str, Any]:
    """Every kernel's tuned and fastest configuration, all timed together."""
    job = work.forward(shape, dtype, DEVICE)
    pool = Pool(1)
    benches = {each.name: CardBench(each, job, DEVICE, pool) for each in kernels}
    chosen: dict[str, dict[str, str]] = {}
    for kind, session in (("fastest", whole), ("tuned", tuned)):
        for best in session.best:
            chosen.setdefault(best.trial.kernel, {})[kind] = best.trial.config
    calls = {
        f"{kernel} {config}": benches[kernel].call_of(config)
        for kernel, configs in chosen.items()
        for config in configs.values()
    }
    times = samples(calls, DEVICE, rounds=2 * ROUNDS, warmup=2)
    rows: dict[str, Any] = {}
    for kernel, configs in chosen.items():
        if len(configs) < 2:
            continue
        pair = [times[f"{kernel} {configs[kind]}"] for kind in ("tuned", "fastest")]
        found = compare(*pair)
        rows[kernel] = {
            **configs,
            "tuned_microseconds": round(found.microseconds / job.calls, 2),
            "fastest_microseconds": round(found.incumbent_microseconds / job.calls, 2),
            "ratio": round(found.ratio, 4),
            "noise": round(found.noise, 4),
            **{
                f"{kind}_trials": next(
                    (best.trials, best.of) for best in s.best if best.trial.kernel == kernel
                )
                for kind, s in (("tuned", tuned), ("exhaustive", whole))
            },
        }
    if not rows:
        return {"kernels": {}}
    tuned_best = min(rows, key=lambda name: rows[name]["tuned_microseconds"])
    fastest = min(rows, key=lambda name: rows[name]["fastest_microseconds"])
    pair = [
        times[f"{tuned_best} {chosen[tuned_best]['tuned']}"],
        times[f"{fastest} {chosen[fastest]['fastest']}"],
    ]
    overall = compare(*pair)
    return {
        "tuned": f"{tuned_best} {chosen[tuned_best]['tuned']}",
        "fastest": f"{fastest} {chosen[fastest]['fastest']}",
        **{"ratio": round(overall.ratio, 4), "noise": round(overall.noise, 4)},
        "kernels": rows,
    }


def line(found: dict[str, Any]) -> str:
    ratio = found.get("ratio")
    each = ", ".join(f"{name} {row['ratio']:.3f}" for name, row in found["kernels"].items())
    return (
        f"{'x'.join(map(str, found['shape']))} {found['dtype']}: tuned / fastest {ratio} +- "
        f"{found.get('noise')}, {found['trials']} trials of {found['of']}; {each}; exhaustive "
        f"{found['exhaustive_seconds']} s ({found['exhaustive_trials']} tried), tuned "
        f"{found['tuned_seconds']} s"
    )


if __name__ == "__main__":
    main()
