"""Predict what an RTX 4090 takes from what an H200 took. Nobody has measured it.

python benchmarks/sm80/predict.py

It reads the committed results (h200_sm80.json, and cuda.simt's of h200_cold_float32.json), asks
this build what sm_89 and sm_90 can hold of each kernel, and writes the RTX 4090's table and
benchmarks/results/rtx4090_predicted.json.

A kernel's time is taken as its launch, the busier of its arithmetic (on tensor cores, or float32's
on FMA units) and memory, and cycles lost to everything else. The 4090's floor is recomputed from
its peaks, with its own number of turns; the lost cycles of a turn are the H200's, more where fewer
blocks are resident to hide them. That errs on the slow side: an Ada multiprocessor's tensor cores
multiply a fifth as fast, so loads that are the bottleneck of an H200 hide there. The clock is the
boost clock that the peaks are stated for. Below 64 rows the skinny kernels are given memory's time
alone.

Triton's configurations are those that `tune --target sm_89` chose (tune/sm_89_session.json), for
where the compiled kernels are not: each is given its shape's fastest time, times what Triton's took
over ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fusedops import backends, native
from fusedops.bench.candidates import kernel_of
from fusedops.bench.peaks import FP16_ACCUMULATION, IEEE, PEAKS, TF32
from fusedops.bench.report import Report
from fusedops.registry import H200, RTX_4090, Measurement, Problem, Table
from fusedops.registry.problem import Card
from fusedops.tune.trial import Session

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
TABLES = ROOT / "registry" / "tables"
LAUNCH = 4.0
"""Microseconds that an empty kernel takes between two events."""
FEW_ROWS, LEAST_ROWS = (1, 4, 8, 16, 32), 64
"""The rows that only the skinny kernels' model covers, and where the measurements begin."""
SKINNY_SHARE = 0.8
"""Of memory's rate: what the skinny kernels reach on an H200, whose memory is faster."""
NEAR = 1.25
"""The table keeps configurations up to so many times slower than the best."""
FMA = "float32 by FMA"
"""The sums of cuda.simt and cuda.skinny_fp32; others name the type that mma.sync adds in."""
H200_FMA_RATE = 66.9e12
"""The data sheet's."""

DTYPES = {"float32": ("bfloat16", "float16"), "float16": ("float16",), FMA: ("float32", TF32)}
"""What each arithmetic serves: the contest's float32 sums were timed in bfloat16."""

SKINNY = {"cuda.skinny": ("bfloat16", "float16"), "cuda.skinny_fp32": ("float32", TF32)}

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Processor:
    """A card at its boost clock; products are those of one multiprocessor's cycle, by its sums."""

    card: Card
    clock: float
    products: Mapping[str, float]

    @property
    def bandwidth(self) -> float:
        return PEAKS[self.card.name].bytes_per_second

    @classmethod
    def with_rates(cls, card: Card, clock: float, flops: Mapping[str, float]) -> Processor:
        per_cycle = {sums: rate / 2 / card.multiprocessors / clock for sums, rate in flops.items()}
        return cls(card, clock, per_cycle)


@dataclass(frozen=True)
class Work:
    """A kernel on a shape: its tile, and how many blocks each architecture keeps resident."""

    shape: Shape
    sums: str
    tile: Shape
    resident: Mapping[tuple[int, int], int]

    def turns(self, processor: Processor) -> int:
        """Tiles of the busiest multiprocessor."""
        m, n, _ = self.shape
        tiles = -(-m // self.tile[0]) * -(-n // self.tile[1])
        return -(-tiles // processor.card.multiprocessors)

    def floor(self, processor: Processor) -> float:
        """Microseconds of the tensor cores or of memory, whichever is longer."""
        m, n, k = self.shape
        tile_m, tile_n, tile_k = self.tile
        depth = -(-k // tile_k) * tile_k
        cycles = self.turns(processor) * tile_m * tile_n * depth / processor.products[self.sums]
        element = 4 if self.sums == FMA else 2
        traffic = (m * k + n * k + m * n) * element / processor.bandwidth
        return 1e6 * max(cycles / processor.clock, traffic)

    def at_once(self, processor: Processor) -> int:
        return max(1, min(self.turns(processor), self.resident[processor.card.capability]))


def carry_over(work: Work, microseconds: float, source: Processor, target: Processor) -> float:
    """The target's time, from the source's."""
    lost = max(0.0, microseconds - LAUNCH - work.floor(source)) / work.turns(source)
    crowding = max(1.0, work.at_once(source) / work.at_once(target))
    slower = crowding * source.clock / target.clock
    return LAUNCH + work.floor(target) + lost * slower * work.turns(target)


def instances() -> Mapping[tuple[str, str], Any]:
    """The compiled instances that both cards run, by kernel and label."""
    catalogue = native.catalogue()
    if catalogue is None:
        raise SystemExit(f"the catalogue is not built: {native.why_no_cuda()}")
    return {(each.kernel, each.label): each for each in catalogue.instances()}


def work(shape: Shape, instance: Any, sums: str) -> Work | None:
    """None for an instance that was not built for both architectures."""
    resident = {
        (int(each["arch"][3]), int(each["arch"][4])): each["occupancy_blocks"]
        for each in instance.resources
    }
    if not resident.keys() >= {H200.capability, RTX_4090.capability}:
        return None
    return Work(shape, sums, instance.tile, resident)


def predictions(contest: Mapping[str, Any], single: Report) -> Iterator[tuple[Work, Measurement]]:
    """Each kernel that was timed on the H200 and runs on the 4090."""
    rates = {
        "float32": 1e12 * contest["rates"]["float32 sums"],
        "float16": 1e12 * contest["rates"]["float16 sums"],
        FMA: H200_FMA_RATE,
    }
    source = Processor.with_rates(H200, 1.98e9, rates)
    peaks = PEAKS[RTX_4090.name].flops
    flops = {"float32": peaks["bfloat16"], "float16": peaks[FP16_ACCUMULATION]}
    target = Processor.with_rates(RTX_4090, 2.52e9, {**flops, FMA: peaks["float32"]})
    compiled = instances()
    for row in (*contest["times"], *times_by_fma(single)):
        kernel, _, label = row["name"].partition(" ")
        instance = compiled.get((kernel, label))
        shape = row["m"], row["n"], row["k"]
        each = work(shape, instance, row["sums"]) if instance is not None else None
        if each is None:
            continue
        time = round(carry_over(each, row["microseconds"], source, target), 2)
        for dtype in DTYPES[row["sums"]]:
            config = label.replace("bf16", "fp16") if dtype == "float16" else label
            yield each, Measurement(*shape, dtype, kernel, config, time)


def times_by_fma(report: Report) -> Iterator[dict[str, Any]]:
    """cuda.simt's, as the contest's."""
    for row in report.rows:
        m, n, k = row.shape
        for name, time in row.microseconds.items():
            if kernel_of(name) == "cuda.simt":
                yield {"sums": FMA, "name": name, "m": m, "n": n, "k": k, "microseconds": time}


def few_rows(shapes: Iterable[Shape]) -> Iterator[Measurement]:
    """The skinny kernels, which wait for memory and little else, on few rows of these shapes."""
    kernels = {kernel.name: kernel for kernel in backends.kernels()}
    for n, k in sorted({(n, k) for _, n, k in shapes}):
        for m in FEW_ROWS:
            for name, arithmetics in SKINNY.items():
                for arithmetic in arithmetics:
                    dtype = torch.float32 if arithmetic == TF32 else getattr(torch, arithmetic)
                    floor = PEAKS[RTX_4090.name].floor((m, n, k), dtype)
                    problem = Problem.contiguous(m, n, k, dtype, card=RTX_4090)
                    config = kernels[name].configs(problem)[0]
                    time = round(LAUNCH + floor / SKINNY_SHARE, 2)
                    yield Measurement(m, n, k, arithmetic, name, str(config), time)


def chosen_by_the_tuner(
    rows: Sequence[Measurement], contest: Mapping[str, Any]
) -> Iterator[Measurement]:
    """Of Triton's kernels, what a search for the card chose without it.

    Beside it, at a shape that has no rows, those that its neighbours speak for: alone it would be
    taken where faster kernels are.
    """
    table = Table(RTX_4090.name, RTX_4090.capability, tuple(rows))
    slower = triton_over_ours(contest["times"])
    session = Session.read(RESULTS / "tune" / "sm_89_session.json")
    origin = (
        "computed, not measured: benchmarks/results/tune/sm_89_session.json ("
        f"{session.command}; {session.date}); {slower:.2f} times the fastest computed here, as "
        "Triton over ours in benchmarks/results/h200_sm80.json"
    )
    for best in session.best:
        trial = best.trial
        if trial.kernel.startswith("triton."):
            dtype = getattr(torch, trial.dtype)
            problem = Problem.contiguous(*trial.shape, dtype, bias_dtype=dtype, card=RTX_4090)
            near = table.predict(problem, backends.kernels())
            fastest = near[0].microseconds
            chosen = [(trial.kernel, trial.config, slower * fastest)]
            if near[0].source.shape != trial.shape:
                chosen += [
                    (each.kernel.name, str(each.config), each.microseconds)
                    for each in near
                    if each.microseconds <= NEAR * fastest
                ]
            for kernel, config, time in chosen:
                place = *trial.shape, trial.dtype
                yield Measurement(*place, kernel, config, round(time, 2), origin)


def triton_over_ours(times: Iterable[Mapping[str, Any]]) -> float:
    """The geometric mean, over the shapes of the contest, of each family's best."""
    best: dict[Any, dict[str, float]] = {}
    for row in times:
        of_shape = best.setdefault((row["m"], row["n"], row["k"], row["sums"]), {})
        before = of_shape.get(row["family"], math.inf)
        of_shape[row["family"]] = min(before, row["microseconds"])
    ratios = [each["triton"] / each["ours"] for each in best.values() if "triton" in each]
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def summary(sums: str, best: Measurement) -> dict[str, Any]:
    m, n, k = best.shape
    precision = FP16_ACCUMULATION if sums == "float16" else IEEE
    dtype = torch.float32 if sums == FMA else torch.float16
    floor = PEAKS[RTX_4090.name].floor(best.shape, dtype, precision)
    return {
        **{"m": m, "n": n, "k": k, "sums": sums, "kernel": best.kernel},
        **{"config": best.config, "microseconds": best.microseconds, "floor": round(floor, 2)},
        "tflops": round(2e-6 * m * n * k / best.microseconds, 1),
    }


def main() -> None:
    contest = json.loads((RESULTS / "h200_sm80.json").read_text())
    single = Report.read(RESULTS / "h200_cold_float32.json")
    all_of: dict[tuple[Shape, str, str], list[tuple[Work, Measurement]]] = {}
    for each, row in predictions(contest, single):
        all_of.setdefault((row.shape, row.dtype, each.sums), []).append((each, row))
    origin = (
        "computed, not measured: benchmarks/sm80/predict.py from benchmarks/results/h200_sm80.json "
        f"({contest['device']}, {contest['date']}, {contest['versions']}), float32 from "
        f"h200_cold_float32.json ({single.date})"
    )
    rows, best = [], []
    for (_, dtype, sums), group in sorted(all_of.items()):
        group.sort(key=lambda pair: pair[1].microseconds)
        limit = NEAR * group[0][1].microseconds
        rows += [row for _, row in group if row.microseconds <= limit]
        if dtype == DTYPES[sums][0]:
            best.append(summary(sums, group[0][1]))
    few = list(few_rows(row.shape for row in rows if row.m == LEAST_ROWS))
    rows += few
    sums_of = {"bfloat16": "float32", "float32": FMA}
    best += [summary(sums_of[row.dtype], row) for row in few if row.dtype in sums_of]
    best.sort(key=lambda row: row["microseconds"])
    fastest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in best:
        fastest.setdefault((row["m"], row["n"], row["k"], DTYPES[row["sums"]]), row)
    best = [fastest[key] for key in sorted(fastest)]
    rows = [replace(row, origin=origin) for row in rows]
    rows += chosen_by_the_tuner(rows, contest)
    table = Table(RTX_4090.name, RTX_4090.capability, tuple(rows))
    (TABLES / "nvidia_geforce_rtx_4090.json").write_text(table.as_text())
    lines = ",\n  ".join(map(json.dumps, best))
    head = json.dumps({"device": RTX_4090.name, "origin": origin}, indent=1).removesuffix("\n}")
    text = f'{head},\n "predictions": [\n  {lines}\n ]\n}}\n'
    (RESULTS / "rtx4090_predicted.json").write_text(text)
    shapes = len({row.shape for row in rows})
    share = math.fsum(row["floor"] / row["microseconds"] for row in best) / len(best)
    print(f"{len(rows)} rows for {shapes} shapes; on average {share:.0%} of the floor")


if __name__ == "__main__":
    main()
