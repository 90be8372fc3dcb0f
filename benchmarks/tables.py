"""Write the tables of the documentation from the committed results.

A page asks for one with a comment, and the table stands between it and the next:

    <!-- table: speed h200_cold_bfloat16.json -->
    <!-- end of table -->

python benchmarks/tables.py            rewrite every table
python benchmarks/tables.py --check    exit 1, and name the page, where a table is not its data's
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fusedops.bench.candidates import AUTO, kernel_of
from fusedops.bench.report import Report, Row, microseconds
from fusedops.registry import Table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TABLES = ROOT / "registry" / "tables"
PAGES = (
    *("README.md", "docs/performance.md", "docs/cpu.md", "docs/distributed.md"),
    *("docs/performance/ada.md", "docs/performance/backward.md", "docs/tune.md"),
)
BLOCK = re.compile(r"(<!-- table: (\w+) (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
ABSENT = "-"
PLACINGS = ("one", "columns", "sequence")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = [page for page in PAGES if not up_to_date(ROOT / page, rewrite=not check)]
    for page in stale:
        print(f"{page}: {'its tables are not those of the results' if check else 'rewritten'}")
    return 1 if check and stale else 0


def up_to_date(page: Path, *, rewrite: bool) -> bool:
    text = page.read_text()
    fresh = BLOCK.sub(lambda block: block[1] + table(block[2], block[3]) + block[4], text)
    if rewrite and fresh != text:
        page.write_text(fresh)
    return fresh == text


def table(kind: str, name: str) -> str:
    path = (TABLES if kind == choices.__name__ else RESULTS) / name
    if not path.exists():
        return f"Not measured yet: `{path.relative_to(ROOT)}`.\n"
    return KINDS[kind](path)


def speed(path: Path) -> str:
    """The floor, the peers and the operator as a user calls it."""
    report = Report.read(path)
    peers = [name for name in report.names() if name != AUTO and "." not in name]
    floors = [row.floor is not None for row in report.rows]
    head = ["M, N, K", *["floor"] * any(floors), *peers, AUTO, "mm / auto"]
    head += ["floor / auto"] * any(floors)
    body = []
    for row in report.rows:
        cells = [size(row), *[microseconds(row.floor)] * any(floors)]
        cells += [microseconds(row.best(name)) for name in (*peers, AUTO)]
        cells += [ratio(row.ratio("mm"))] + [percent(row.of_the_floor)] * any(floors)
        body.append(cells)
    means = {peer: geometric_mean(report.rows, peer) for peer in peers}
    shown = ", ".join(f"{peer} / auto {mean:.3g}" for peer, mean in means.items() if mean)
    text = f"Microseconds. Geometric means: {shown}. {source(report, path)}"
    return markdown(head, body) + paragraph(text)


def behind(path: Path) -> str:
    """How often, and by how much, the operator is slower than mm."""
    report = Report.read(path)
    ratios = [each for row in report.rows if (each := row.ratio("mm")) is not None]
    slower = [each for each in ratios if each < 1]
    by = f", by {percent(1 - min(slower))} at most" if slower else ""
    text = f"slower than `mm` at {len(slower)} of the {len(ratios)} shapes{by}"
    return f"{report.arithmetic}, {report.method}: `auto` is {text}.\n"


def choices(path: Path) -> str:
    """What a table of the registry holds."""
    table = Table.read(path)
    shapes: dict[str, set[tuple[int, int, int]]] = {}
    for row in table.measurements:
        shapes.setdefault(row.dtype, set()).add(row.shape)
    counts = ", ".join(f"{len(each)} in {dtype}" for dtype, each in shapes.items())
    text = f"`{path.relative_to(ROOT)}` has the {table.device}'s choices by shape: {counts}."
    return paragraph(text).removeprefix("\n")


def kernels(path: Path) -> str:
    """Each kernel of ours with its preferred configuration, as times faster than mm."""
    report = Report.read(path)
    ours = [name for name in report.names() if "." in name]
    head = ["M, N, K", "mm, us", *(f"`{name}`" for name in ours), "auto takes"]
    body = []
    for row in report.rows:
        speeds = (ratio(row.ratio("mm", name)) for name in ours)
        chosen = kernel_of(row.chosen) or ABSENT
        body.append([size(row), microseconds(row.best("mm")), *speeds, chosen])
    return markdown(head, body) + paragraph(f"Times as fast as mm. {source(report, path)}")


def host(path: Path) -> str:
    """The host's time per call."""
    report = Report.read(path)
    base = report.host_microseconds["F.linear"]
    body = [
        [f"`{name}`", f"{time:.1f}", f"{time / base:.2f}"]
        for name, time in report.host_microseconds.items()
    ]
    return markdown(["call", "us", "/ F.linear"], body) + paragraph(source(report, path))


def kernelbench(path: Path) -> str:
    """What examples/kernelbench_level2_70.py wrote."""
    report = json.loads(path.read_text())
    body = []
    for dtype, result in report["results"].items():
        times = result["milliseconds"]
        ours = times["fusedops"]
        body.append(
            [dtype, f"`{result['kernel']}`", *(f"{time:.3f}" for time in times.values())]
            + [f"{times[peer] / ours:.2f}" for peer in ("eager", "torch.compile")]
        )
    head = ["", "kernel", "eager, ms", "torch.compile, ms", "fusedops, ms", "/ eager", "/ compile"]
    sizes = ", ".join(map(str, report["sizes"]))
    return markdown(head, body) + paragraph(
        f"{report['device']}, torch {report['torch']}, {report['date']}; batch, input and hidden "
        f"size {sizes}; means of {report['trials']} trials; "
        f"`benchmarks/results/{path.name}`."
    )


def contest(path: Path) -> str:
    """The best of each family of mma.sync kernels, which benchmarks/sm80/run.py timed."""
    result = json.loads(path.read_text())
    families = ("ours", "cutlass", "triton", "cublas")
    best: dict[tuple[str, ...], dict[str, tuple[float, str]]] = {}
    for row in result["times"]:
        of_shape = best.setdefault((row["sums"], *(str(row[size]) for size in "mnk")), {})
        time = row["microseconds"], row["name"]
        of_shape[row["family"]] = min(time, of_shape.get(row["family"], time))
    body = []
    for (sums, *sizes), times in best.items():
        if "cutlass" not in times:
            continue
        shown = [microseconds(times[each][0]) if each in times else ABSENT for each in families]
        ours, peer = times["ours"], times["cutlass"]
        triton = ratio(times["triton"][0] / ours[0] if "triton" in times else None)
        body.append(
            [", ".join(sizes), sums, *shown, f"{peer[0] / ours[0]:.3f}", triton]
            + [f"`{name.rpartition(' ')[2]}`" for _, name in (ours, peer)]
        )
    head = ["M, N, K", "sums", *families, "cutlass / ours", "triton / ours"]
    text = (
        f"Microseconds, the best of each family. {result['device']}, {result['versions']}, "
        f"{result['date']}; `benchmarks/results/{path.name}`. cuBLAS multiplies with wgmma and has "
        "no epilogue: a yardstick."
    )
    return markdown([*head, "our tile", "CUTLASS's tile"], body) + paragraph(text)


def prediction(path: Path) -> str:
    """What benchmarks/sm80/predict.py expects of a card that nobody has measured."""
    result = json.loads(path.read_text())
    body = []
    for row in result["predictions"]:
        size = f"{row['m']}, {row['n']}, {row['k']}"
        times = [microseconds(row["floor"]), microseconds(row["microseconds"])]
        share = percent(row["floor"] / row["microseconds"])
        body.append(
            [size, row["sums"], *times, f"{row['tflops']:.0f}", share, f"`{row['config']}`"]
        )
    head = ["M, N, K", "sums", "floor, us", "predicted, us", "TFLOP/s", "of the floor", "tile"]
    text = f"{result['device']}, {result['origin']}; `benchmarks/results/{path.name}`."
    return markdown(head, body) + paragraph(text)


def tuning(path: Path) -> str:
    """Searches beside exhaustive ones, by benchmarks/tune_against_exhaustive.py."""
    result = json.loads(path.read_text())
    body = []
    worst: dict[str, float] = {}
    for cell in result["cells"]:
        kernel, _, config = cell["tuned"].partition(" ")
        time = cell["kernels"][kernel]["tuned_microseconds"]
        share = percent(cell["trials"] / cell["of"])
        body.append(
            [
                *(", ".join(map(str, cell["shape"])), cell["dtype"]),
                *(f"`{kernel}`", f"`{config}`"),
                *(microseconds(time), f"{cell['ratio']:.3f}", f"{cell['noise']:.3f}"),
                *(f"{cell['trials']} of {cell['exhaustive_trials']}", share),
            ]
        )
        for name, row in cell["kernels"].items():
            worst[name] = max(row["ratio"], worst.get(name, 0.0))
    head = ["M, N, K", "dtype", "kernel", "configuration", "us", "/ fastest", "noise"]
    packages = ", ".join(f"{name} {each}" for name, each in result["versions"].items() if each)
    furthest = ", ".join(f"`{name}` {ratio:.3f}" for name, ratio in worst.items())
    text = (
        "The tuned configuration's time over that of the fastest of these kernels' spaces, timed "
        f"together in {2 * result['rounds']} rounds. Each kernel over the fastest of its own, at "
        f"most: {furthest}. {result['device']}, {result['date']}; {packages}; "
        f"`benchmarks/results/{path.relative_to(RESULTS)}`."
    )
    return markdown([*head, "tried", "share"], body) + paragraph(text)


def training(path: Path) -> str:
    """Forward and backward, which benchmarks/training.py timed."""
    result = json.loads(path.read_text())
    names = list(result["rows"][0]["microseconds"])
    body, over_linear = [], []
    for row in result["rows"]:
        times = row["microseconds"]
        over_linear.append(times["fusedops"] / times["linear"])
        alive = f"{row['alive']['eager']:.0f}, {row['alive']['fusedops']:.0f}"
        shown = [microseconds(times[name]) for name in names]
        over = [f"{over_linear[-1]:.3f}", f"{times['compile'] / times['fusedops']:.3f}"]
        body.append([", ".join(map(str, row["shape"])), *shown, *over, alive])
    mean = math.exp(sum(map(math.log, over_linear)) / len(over_linear))
    head = ["M, N, K", *names, "fusedops / linear", "compile / fusedops", "alive: eager, fusedops"]
    text = (
        f"Microseconds. fusedops / linear, geometric mean: {mean:.3f}. {provenance(result, path)}"
    )
    return markdown(head, body) + paragraph(text)


def backward(path: Path) -> str:
    """The gradient's kernels, as benchmarks/backward.py timed them, as each prefers."""
    result = json.loads(path.read_text())
    kinds = {0: "z", 1: "y, one step", 2: "y, two steps"}
    body = []
    for row in result["rows"]:
        firsts: dict[str, float] = {}
        for name, time in row["microseconds"].items():
            firsts.setdefault(kernel_of(name), time)
        cells = [", ".join(map(str, row["shape"])), row["dtype"], kinds[row["steps"]]]
        cells += [str(row["floor"]), str(firsts["triad"])]
        for kernel in ("cuda.backward", "triton.backward"):
            cells += [str(firsts[kernel]), percent(row["floor"] / firsts[kernel])]
        body.append(cells)
    head = ["M, N", "", "from", "floor", "triad", "`cuda.backward`", "of the floor"]
    head += ["`triton.backward`", "of the floor"]
    return markdown(head, body) + paragraph(f"Microseconds. {provenance(result, path)}")


def sharded(path: Path) -> str:
    """One card against two, which benchmarks/tensor_parallel.py timed."""
    result = json.loads(path.read_text())
    body = []
    for row in result["times"]:
        times = row["microseconds"]
        for layer in ("fused", "eager"):
            for passes in ("forward", "both"):
                one, *several = (times[f"{layer} {placing} {passes}"] for placing in PLACINGS)
                cells = [f"{row['m']}, {row['n']}, {row['k']}", layer, passes, microseconds(one)]
                for time in several:
                    cells += [microseconds(time), f"{one / time:.2f}"]
                body.append(cells)
    head = ["M, N, K", "layer", "passes", *PLACINGS[:2], "times as fast", PLACINGS[2]]
    right = sum(each["verdict"] == "right" for each in result["checks"])
    text = (
        f"Microseconds, medians of {result['times'][0]['rounds']} rounds, bfloat16. "
        f"{right} of {len(result['checks'])} checks right. {result['devices']} x "
        f"{result['device']}, torch {result['torch']}, NCCL {result['nccl']}, {result['date']}; "
        f"`python benchmarks/tensor_parallel.py`; `benchmarks/results/{path.name}`."
    )
    return markdown([*head, "times as fast"], body) + paragraph(text)


def provenance(result: dict[str, Any], path: Path) -> str:
    packages = ", ".join(f"{name} {each}" for name, each in result["versions"].items() if each)
    return (
        f"{result['device']}, {packages}; medians of {result['rounds']} rounds; {result['date']}; "
        f"`{result['command']}`; `benchmarks/results/{path.name}`."
    )


KINDS: dict[str, Callable[[Path], str]] = {
    each.__name__: each
    for each in (
        *(speed, behind, choices, kernels, host, kernelbench, contest, prediction),
        *(training, backward, sharded, tuning),
    )
}


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def paragraph(text: str) -> str:
    lines = textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)
    return "\n" + "\n".join(lines) + "\n"


def source(report: Report, path: Path) -> str:
    packages = ", ".join(
        f"{name} {each}" for name, each in report.versions.items() if each and name != "fusedops"
    )
    absent = "".join(f" {name} is absent: {why}." for name, why in report.absent.items())
    threads = "" if report.floor_from else f", {report.threads} threads"
    return (
        f"{report.device}{threads}, {report.arithmetic}, {report.method}, medians of "
        f"{report.rounds} rounds; {packages}; {report.date}; `{report.command}`; "
        f"`benchmarks/results/{path.name}`.{absent}"
    )


def size(row: Row) -> str:
    return ", ".join(map(str, row.shape))


def ratio(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def percent(value: float | None) -> str:
    return ABSENT if value is None else f"{100 * value:.0f} %"


def geometric_mean(rows: Sequence[Row], peer: str) -> float | None:
    """Of the peer's times over the operator's, at the shapes that it has."""
    ratios = [each for row in rows if (each := row.ratio(peer))]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


if __name__ == "__main__":
    sys.exit(main())
