"""The tuner's report: every trial in it, the winner, what bounds it, and the plots."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest

from fusedops.bench.peaks import PEAKS
from fusedops.registry import H200
from fusedops.tune import plots, report
from fusedops.tune.rows import rows as rows_of
from fusedops.tune.trial import (
    ADOPTED,
    BASELINE,
    COMPUTED,
    FAILED,
    REVERTED,
    TILES,
    WARPS_AND_STAGES,
    WRONG,
    Best,
    Resources,
    Session,
    Trial,
)

SHAPE = (1024, 8192, 8192)
RESOURCES = Resources(168, 0, 98304, 256, 1, "shared memory", 0.125)
PROFILE = {"tensor_percent": 88.0, "dram_percent": 20.0, "stall_gmma": 3.5, "limiter": "registers"}

BASE = Trial(
    *(SHAPE, "float16", "triton.tiled", "128x128x32 w4 s2", BASELINE, "the conservative baseline"),
    resources=RESOURCES,
    error_over_bound=0.21,
    microseconds=250.0,
    verdict=ADOPTED,
    why="it is the first",
)
FASTER = replace(
    BASE,
    config="128x256x64 w8 s3",
    stage=WARPS_AND_STAGES,
    reason="low_registers: 90 registers | below 96",
    microseconds=200.0,
    incumbent_microseconds=250.0,
    noise=0.004,
    why="20 % less",
    profile=PROFILE,
)
SLOWER = replace(FASTER, config="64x64x32 w4 s2", stage=TILES, microseconds=260.0, verdict=REVERTED)
WRONG_ONE = replace(
    BASE, config="16x16x16", error_over_bound=3.0, microseconds=None, verdict=WRONG, why="3 bounds"
)
SPILLS = replace(
    BASE, config="256x256x64", resources=replace(RESOURCES, local_bytes=64, registers=255)
)
BROKEN = replace(BASE, config="256x256x256", resources=None, microseconds=None, verdict=FAILED)
GRADIENT = replace(BASE, shape=SHAPE, kernel="triton.backward", config="32", microseconds=14.0)

SESSION = Session(
    device=H200.name,
    capability=H200.capability,
    versions={"torch": "2.11.0", "quack-kernels": None},
    date="2026-11-23",
    command="python -m fusedops tune --shape 1024x8192x8192",
    target="",
    method="cold L2",
    trials=(BASE, FASTER, SLOWER, WRONG_ONE, SPILLS, BROKEN, GRADIENT),
    best=(
        Best(FASTER, 6, 80, ("low_registers (90 registers): try 8 warps, 3 stages",), 198.0),
        Best(replace(BASE, kernel="cuda.simt"), 1, 1),
        Best(GRADIENT, 1, 4),
    ),
    profiled="Nsight Compute 2025.3.1",
    skipped={"cuda.skinny": "it takes up to 64 rows"},
)


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in lines]


def test_every_trial_is_told_in_order_with_its_numbers():
    text = report.as_markdown(SESSION, {})
    told = [row for row in rows(text) if len(row) == len(report.TRIALS)]
    configs = [row[2] for row in told if row[0].isdigit()]
    assert configs == [each.config for each in SESSION.trials]
    row = next(row for row in told if row[2] == FASTER.config)
    assert row == [
        *("2", "triton.tiled", FASTER.config, "warps and stages"),
        r"low_registers: 90 registers \| below 96",
        *("168", "0 B", "96 KiB", "1 x 256 (12%), by shared memory"),
        *("200", "250", "0.800 ± 0.004", "0.210", "adopted: 20 % less"),
    ]
    broken = next(row for row in told if row[2] == BROKEN.config)
    assert broken[5:12] == ["-"] * 7


def test_the_winner_its_floor_and_what_bounds_it():
    text = report.as_markdown(SESSION, {})
    least = report.floor(SESSION, (SHAPE, "float16", False))
    assert least == pytest.approx(138.9, abs=0.1)
    summary = next(row for row in rows(text) if len(row) == 6 and row[0].startswith("1024"))
    assert summary == [
        *("1024x8192x8192, float16", "triton.tiled", FASTER.config, "198", "70", "6 of 80")
    ]
    assert f"**Winner: triton.tiled {FASTER.config}**, 198 us; the card's floor is 139 us" in text
    assert "It is bound by the tensor cores, at 88 % of the peak." in text
    assert ["tensor pipe, % of peak", "88"] in rows(text)
    assert ["waits for gmma, warp cycles an instruction", "3.5"] in rows(text)
    assert ["what limits it", "registers"] in rows(text)
    assert "1. low_registers (90 registers): try 8 warps, 3 stages" in text
    for said in (
        "Nsight Compute 2025.3.1",
        "- cuda.skinny: it takes up to 64 rows",
        "torch 2.11.0",
    ):
        assert said in text
    assert "quack" not in text
    of_gradient = text[text.index("## 1024x8192x8192, float16, gradient") :]
    assert "It was not profiled." in of_gradient
    assert "the card's floor is 11.7 us" in of_gradient


def test_without_figures_or_winner_it_says_so():
    trials = [replace(each, profile=None) for each in SESSION.trials]
    session = replace(SESSION, best=(), trials=trials, profiled="ncu is not installed.")
    assert "Nothing was adopted." in report.as_markdown(session, {})
    failed = replace(FASTER, profile={"failed": "it hung"})
    text = report.as_markdown(replace(session, trials=[failed], best=(Best(failed, 1, 1),)), {})
    assert "no figures of what bounds it: it hung." in text
    assert "| figure |" not in text
    session = replace(session, best=(Best(BASE, 1, 1),), device="NVIDIA Something")
    text = report.as_markdown(session, {}, "No plots: they are off.")
    assert "It was not profiled: ncu is not installed." in text
    assert "the card's floor is not known" in text
    assert "No plots: they are off." in text


def computed() -> Session:
    trials = [
        replace(each, microseconds=None, verdict=COMPUTED, estimate=estimate, profile=None)
        for each, estimate in ((BASE, 4.0), (FASTER, 2.0), (SPILLS, None))
    ]
    best = (Best(trials[1], 3, 80),)
    return replace(SESSION, target="sm_89", trials=trials, best=best)


def test_for_a_card_that_is_not_here_nothing_is_timed(tmp_path):
    text = report.as_markdown(computed(), {})
    assert "For sm_89, without the card" in text
    assert f"**The best of triton.tiled {FASTER.config}**, by what was computed of it." in text
    bars = plots.fastest(computed().trials)
    assert [(value, each.config) for _, value, each in bars] == [
        (1.0, FASTER.config),
        (2.0, BASE.config),
    ]
    shown = plots.draw(computed(), tmp_path)
    assert not any("Roofline" in name for name in shown)
    assert len(shown) == 2


def test_plots_are_written_and_named_in_the_report(tmp_path):
    pytest.importorskip("matplotlib")
    path = report.write(SESSION, tmp_path / "out")
    text = path.read_text()
    pictures = re.findall(r"!\[(.+?)\]\((.+?)\)", text)
    assert [name for _, name in pictures] == [
        "time_1024x8192x8192_float16.png",
        "time_1024x8192x8192_float16_gradient.png",
        "roofline_float16.png",
        "registers.png",
    ]
    for _, name in pictures:
        assert (path.parent / name).read_bytes().startswith(b"\x89PNG")
    assert {each.name for each in path.parent.iterdir()} == {
        *(name for _, name in pictures),
        "report.md",
    }


def test_without_matplotlib_the_report_stands_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("fusedops.tune.report.find_spec", lambda name: None)
    path = report.write(SESSION, tmp_path)
    assert "pip install matplotlib" in path.read_text()
    assert "![" not in path.read_text()
    assert [each.name for each in tmp_path.iterdir()] == ["report.md"]


class Axes:
    """Remembers what is drawn on it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple, dict]] = []

    def __getattr__(self, name: str):
        if name in ("xaxis", "yaxis"):
            return Axes()
        return lambda *words, **more: self.calls.append((name, words, more))

    def points(self) -> set[tuple[float, float, str]]:
        return {
            (x, y, more["label"])
            for name, words, more in self.calls
            if name == "scatter"
            for x, y in zip(*words[:2], strict=True)
        }


def test_the_roofline_has_the_roof_and_every_timed_candidate():
    axes, peaks = Axes(), PEAKS[H200.name]
    plots.roofline(axes, [BASE, FASTER], peaks)
    (roof,) = [words for name, words, _ in axes.calls if name == "plot"]
    xs, ys = roof[:2]
    assert ys[1:] == (peaks.flops["float16"],) * 2
    assert ys[0] / xs[0] == pytest.approx(peaks.bytes_per_second)
    m, n, k = SHAPE
    where = 2 * m * n * k / (2 * (m * k + n * k + n + m * n))
    assert plots.intensity(SHAPE, "float16") == pytest.approx(where)
    assert plots.intensity(SHAPE, "tf32") == pytest.approx(where / 2)
    assert axes.points() == {
        (where, 2 * m * n * k / time * 1e6, "triton.tiled, adopted") for time in (250.0, 200.0)
    }
    drawn = {plot.name: plot.on.keywords for plot in plots.planned(SESSION)}
    best = drawn["time_1024x8192x8192_float16.png"]["best"]
    assert (*plots.group_of(FASTER), FASTER.kernel, FASTER.config) in best and len(best) == 3
    on_it = [each.config for each in drawn["roofline_float16.png"]["trials"]]
    assert on_it == [each.config for each in (BASE, FASTER, SLOWER, SPILLS)]  # no gradient


def test_registers_against_occupancy_marks_what_spills():
    axes = Axes()
    plots.registers(axes, [BASE, SPILLS])
    assert axes.points() == {
        (168, 12.5, "triton.tiled, adopted"),
        (255, 12.5, "triton.tiled, adopted"),
        (255, 12.5, "spills"),
    }


def test_time_by_configuration_puts_the_fastest_first():
    bars = plots.fastest(SESSION.trials[:-1])
    assert [value for _, value, _ in bars] == [200.0, 250.0, 250.0, 260.0]
    axes = Axes()
    plots.times(axes, bars, {(*plots.group_of(FASTER), FASTER.kernel, FASTER.config)})
    (drawn,) = [(words, more) for name, words, more in axes.calls if name == "barh"]
    assert list(drawn[0][1]) == [200.0, 250.0, 250.0, 260.0]
    assert [shade for _, shade in drawn[1]["color"]] == [1.0, *(plots.FAINT,) * 3]


def test_a_session_is_read_as_it_was_written(tmp_path):
    beside = Best(replace(FASTER, kernel="cuda.simt"), 0, 0, [], 210.0)
    whole = replace(SESSION, others=[beside], failed={"a": "b"}, ended="interrupted")
    path = tmp_path / "session.json"
    whole.write(path)
    found = Session.read(path)
    assert found.others == [beside]
    assert (found.failed, found.ended) == ({"a": "b"}, "interrupted")
    assert [row.kernel for row in rows_of(found)][:1] == ["triton.tiled"]


def test_nothing_says_that_modelled_times_of_two_kernels_compare():
    other = replace(FASTER, kernel="cuda.simt", microseconds=None, estimate=9.0, profile=None)
    whole = computed()
    two = replace(whole, best=(*whole.best, Best(other, 1, 9)), trials=(*whole.trials, other))
    text = report.as_markdown(two, {})
    assert "Winner" not in text and "## The best of each kernel" in text
    for kernel in ("triton.tiled", "cuda.simt"):
        assert f"**The best of {kernel} {FASTER.config}**, by what was computed of it." in text
        assert f"| {kernel} | {FASTER.config} | - | - |" in text
