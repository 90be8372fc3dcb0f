"""Nsight Compute: found or said to be absent, its report read, and the sentence made of it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusedops.plans import fp32_precision
from fusedops.tune import counter_rules, ncu, one_launch
from fusedops.tune.bottleneck import IDLE, SATURATED, UNITS, bound_by
from fusedops.tune.counters import METRICS, PER_ISSUE, STALLED, figures_of
from fusedops.tune.rules import Setting

SHAPE = (64, 48, 32)


class FakeAction:
    """A kernel of a report, with the package's methods."""

    def __init__(self, metrics: Mapping[str, float]) -> None:
        self.metrics = metrics

    def metric_names(self) -> tuple[str, ...]:
        return tuple(self.metrics)

    def metric_by_name(self, name: str) -> object | None:
        if name not in self.metrics:
            return None
        return SimpleNamespace(as_double=lambda: self.metrics[name])


def metrics(**figures: float) -> dict[str, float]:
    """As a report names them."""
    found = {METRICS[name][0]: value for name, value in figures.items() if name in METRICS}
    stalls = {name: value for name, value in figures.items() if name not in METRICS}
    return found | {f"{STALLED}{name}{PER_ISSUE}": value for name, value in stalls.items()}


def test_the_figures_of_a_report():
    figures = figures_of(
        FakeAction(
            metrics(
                tensor_percent=61.23456,
                registers_limit=2,
                shared_memory_limit=1,
                warps_limit=16,
                shared_wavefronts=200,
                bank_conflicts=50,
                long_scoreboard=3.5,
                barrier=1,
                wait=2,
                gmma=0.5,
                sleeping=0,
                selected=9,
                not_selected=8,
            )
        )
    )
    assert figures["tensor_percent"] == 61.235
    assert figures["limiter"] == "shared memory"
    assert figures["bank_conflict_percent"] == 25.0
    stalls = [name for name in figures if name.startswith("stall_")]
    assert stalls == ["stall_long_scoreboard", "stall_wait", "stall_barrier"]
    assert "dram_percent" not in figures


RECORDED = json.loads((Path(__file__).parent / "counters_h200.json").read_text())["kernels"]


@pytest.mark.parametrize(
    ("kernel", "limiter", "sectors", "says"),
    [
        ("cuda.sm90_cooperative", "registers and shared memory", 2.0, "the tensor cores, at 91 %"),
        ("triton.tiled", "registers and shared memory", 15.99, "other warps at a barrier (6.3 of"),
        ("triton.backward", "registers", 16.05, "by L2 in part, at 69 % of the peak, and by lat"),
    ],
)
def test_kernels_as_they_were_on_an_h200(kernel, limiter, sectors, says):
    (recorded,) = (each for name, each in RECORDED.items() if name.startswith(kernel))
    figures = figures_of(FakeAction(recorded))
    assert not {*METRICS} - {*figures} - {"bank_conflicts"}
    assert (figures["limiter"], figures["load_sectors_per_request"]) == (limiter, sectors)
    assert figures["bank_conflict_percent"] >= 0
    assert len([name for name in figures if name.startswith("stall_")]) == 3
    assert says in bound_by(figures)


def test_a_figure_has_other_names_on_other_cards():
    first, second = METRICS["dram_percent"]
    assert figures_of(FakeAction({second: 5.0}))["dram_percent"] == 5
    assert figures_of(FakeAction({second: 5.0, first: 6.0}))["dram_percent"] == 6
    assert figures_of(FakeAction({})) == {}


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ({"tensor_percent": 92.0, "dram_percent": 30.0}, "bound by the tensor cores, at 92 %"),
        ({"tensor_percent": 30.0, "dram_percent": 85.0}, "bound by DRAM, at 85 %"),
        ({"sm_percent": 90.0, "tensor_percent": 90.0}, "bound by the tensor cores, at 90 %"),
        ({"sm_percent": 90.0, "tensor_percent": 40.0}, "bound by the multiprocessors' pipes"),
        (
            {"l2_percent": 70.0, "stall_long_scoreboard": 4.0, "warp_cycles_per_issue": 9.0},
            "bound by L2 in part, at 70 % of the peak, and by latency: its warps wait for data "
            "from global memory (4.0 of 9.0 cycles an instruction)",
        ),
        (
            {
                "tensor_percent": 35.0,
                "waves": 3.0,
                "stall_barrier": 2.0,
                "occupancy_percent": 12.4,
                "limiter": "shared memory",
            },
            "bound by latency: no unit is above 35 % of its peak, and its warps wait for other "
            "warps at a barrier (2.0 cycles an instruction), at 12 % occupancy, limited by shared "
            "memory.",
        ),
        ({"tensor_percent": 35.0, "limiter": "registers", "stall_wait": 1.0}, "fixed latency"),
        ({"dram_percent": 20.0, "waves": 0.24}, "too few blocks: they fill 24% of the card"),
        ({"dram_percent": 20.0}, "what its warps wait for is not known"),
        ({"dram_percent": 20.0, "stall_new_reason": 1.0}, "wait for new_reason"),
        ({"l1_percent": 90.0, "bank_conflict_percent": 40.0}, "; bank conflicts are 40 %"),
        ({"l1_percent": 90.0, "bank_conflict_percent": 4.0}, "at 90 % of the peak."),
        ({"dram_percent": 90.0, "bank_conflict_percent": 40.0}, "at 90 % of the peak."),
        (
            {"sm_percent": 40.0, "stall_mio_throttle": 2.0, "bank_conflict_percent": 40.0},
            "(2.0 cycles an instruction); bank conflicts are 40 %",
        ),
        ({}, "no figures of what bounds it: what it gave tells nothing."),
        ({"failed": "it hung"}, "no figures of what bounds it: it hung."),
    ],
)
def test_what_bounds_a_kernel(figures, says):
    assert says in bound_by(figures)


percents = st.floats(0, 100)


@given(st.dictionaries(st.sampled_from(sorted(UNITS)), percents, min_size=1), percents)
def test_the_sentence_names_the_busiest_unit_and_obeys_the_thresholds(used, waves):
    sentence = bound_by({**used, "waves": waves})
    most = max(used.values())
    assert sentence.startswith("It is bound by ")
    assert sentence.endswith(".") and sentence.count(". ") == 0
    busiest = [UNITS[unit] for unit, value in used.items() if value == most]
    assert (most >= SATURATED) == ("latency" not in sentence and "too few" not in sentence)
    if most >= IDLE:
        assert any(name in sentence for name in busiest)
    assert ("too few blocks" in sentence) == (most < IDLE and waves < 1)


@pytest.mark.parametrize(
    ("figures", "now", "rule", "settings"),
    [
        ({"dram_percent": 82.0, "stall_long_scoreboard": 9.0}, (4, 2), "saturated", []),
        (
            {"dram_percent": 40.0, "stall_long_scoreboard": 9.0},
            (4, 2),
            "waits_for_memory",
            [(4, 3), (8, 2)],
        ),
        ({"dram_percent": 40.0, "stall_lg_throttle": 9.0}, (8, 3), "waits_for_memory", []),
        ({"dram_percent": 40.0, "stall_barrier": 9.0}, (8, 3), "waits_for_warps", [(4, 3)]),
        ({"dram_percent": 40.0, "stall_barrier": 9.0}, (4, 2), "waits_for_warps", []),
        ({"dram_percent": 40.0, "stall_wait": 9.0, "stall_barrier": 2.0}, (4, 2), None, []),
        ({"dram_percent": 70.0, "stall_barrier": 2.0}, (8, 2), None, []),
        ({}, (8, 2), None, []),
        ({"failed": "it hung"}, (8, 2), None, []),
    ],
)
def test_what_the_counters_say_to_try(figures, now, rule, settings):
    given = counter_rules.advice(figures, Setting(*now))
    assert [each.rule for each in given] == ([rule] if rule else [])
    assert [setting for each in given for setting in each.settings] == [
        Setting(*each) for each in settings
    ]
    if rule:  # the numbers that caused it
        assert settings or str(given[0]).endswith(": stay")
        assert "82 %" in str(given[0]) or "9.0 cycles" in str(given[0])


def test_without_the_program(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ncu, "INSTALLATIONS", ())
    with pytest.raises(ncu.Absent, match="ncu is not installed"):
        ncu.profile(SHAPE, "float16", "triton.tiled", "x")


def test_the_program_where_its_installer_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ncu, "INSTALLATIONS", (f"{tmp_path}/nsight*",))
    for version in ("nsight-2024.1", "nsight-2025.3"):
        an_ncu(tmp_path / version, "")
    assert ncu.find_program() == str(tmp_path / "nsight-2025.3" / "ncu")


def an_ncu(folder: Path, body: str) -> Path:
    """A program in ncu's place: Python, with ``report`` and ``words`` at hand."""
    folder.mkdir(exist_ok=True)
    program = folder / "ncu"
    head = (
        f"#!{sys.executable}\nimport sys, subprocess, json\nwords = sys.argv[1:]\n"
        "if words == ['--version']: sys.exit(print('Version 2025.3.1'))\n"
        "report = words[words.index('--export') + 1]\n"
    )
    program.write_text(head + body)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


class FakePackage:
    """Reads what ``an_ncu`` wrote: a list of the metrics of each kernel."""

    __file__ = "ncu_report.py"

    def load_report(self, path: str) -> object:
        actions = [FakeAction(each) for each in json.loads(Path(path).read_text())]
        ranged = SimpleNamespace(
            num_actions=lambda: len(actions), action_by_idx=actions.__getitem__
        )
        return SimpleNamespace(num_ranges=lambda: 1, range_by_idx=lambda _: ranged)


@pytest.fixture
def ready(monkeypatch, tmp_path):
    """A function that puts a program in ncu's place, its package there."""
    monkeypatch.setattr(ncu, "find_package", FakePackage)

    def put(body: str) -> None:
        monkeypatch.setenv("PATH", f"{an_ncu(tmp_path, body).parent}:{os.environ['PATH']}")

    return put


def test_a_candidate_is_run_and_its_longest_kernel_read(ready, tmp_path):
    kernels = [
        metrics(nanoseconds=10, tensor_percent=1),
        metrics(nanoseconds=90, tensor_percent=55),
    ]
    heard = tmp_path / "heard"
    ready(
        f"open(report, 'w').write({json.dumps(kernels)!r})\n"
        f"json.dump(words, open({str(heard)!r}, 'w'))"
    )
    figures = ncu.profile(SHAPE, "float16", "triton.tiled", "16x16 -x")
    assert figures["tensor_percent"] == 55
    words = json.loads(heard.read_text())
    assert words[words.index("-m") + 1 :] == [
        "fusedops.tune.one_launch",
        *("--shape", "64x48x32", "--dtype", "float16", "--kernel", "triton.tiled"),
        "--config=16x16 -x",
    ]
    assert words[words.index("--clock-control") + 1] == "none"
    assert "Version 2025.3.1" in ncu.described()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("print('==ERROR== ERR_NVGPUCTRPERM - The user does not')", "NVreg_Restrict"),
        (
            "print('==PROF== Connected')\nprint('==ERROR== LibraryNotLoaded')\nsys.exit(1)",
            "no report: LibraryNotLoaded$",
        ),
        (
            "print('Traceback')\nprint('ValueError: no card')\nprint('==ERROR== code 1')",
            "no report: code 1; ValueError: no card$",
        ),
        ("", "it said nothing"),
        ("open(report, 'w').write('[]')", "saw no kernel"),
        ("open(report, 'w').write('[')", "one.ncu-rep cannot be read: JSONDecodeError"),
    ],
)
def test_why_there_are_no_figures(ready, body, says):
    ready(body)
    with pytest.raises(ncu.Absent, match=says) as raised:
        ncu.profile(SHAPE, "float16", "triton.tiled", "x")
    others_may_fare_better = ("PERM" not in body and "write" not in body) or "saw" in says
    assert isinstance(raised.value, ncu.Failed) == others_may_fare_better


def test_a_program_that_hangs_or_does_not_start(ready, monkeypatch, tmp_path):
    ready("import time; time.sleep(30)")
    monkeypatch.setattr(ncu, "MOST_SECONDS", 0.2)
    with pytest.raises(ncu.Failed, match=r"longer than 0\.2 seconds"):
        ncu.profile(SHAPE, "float16", "triton.tiled", "x")
    (tmp_path / "ncu").write_text("#!/nowhere/at/all\n")
    with pytest.raises(ncu.Absent, match="cannot be started"):
        ncu.profile(SHAPE, "float16", "triton.tiled", "x")


def test_the_package_beside_the_program_or_nowhere(monkeypatch, tmp_path):
    ncu.find_package.cache_clear()
    monkeypatch.setattr(ncu, "PACKAGE", "ncu_report_of_a_test")
    monkeypatch.setattr(ncu, "INSTALLATIONS", (f"{tmp_path}/nsight*",))
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ncu.Absent, match="pip install ncu-report"):
        ncu.find_package()
    carried = tmp_path / "nsight-2025.3" / "extras" / "python"
    carried.mkdir(parents=True)
    (carried / "ncu_report_of_a_test.py").write_text("load_report = open")
    try:
        assert ncu.find_package().__file__ == str(carried / "ncu_report_of_a_test.py")
    finally:
        ncu.find_package.cache_clear()


@pytest.fixture
def switches():
    """PyTorch's, as they were."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    yield
    matmul.fp32_precision = before


@pytest.mark.usefixtures("switches")
def test_one_launch_runs_the_configuration_asked_for(monkeypatch):
    launched, precisions = [], []

    def profile(launch):
        launched.append(launch())
        precisions.append(fp32_precision())

    monkeypatch.setattr(one_launch, "profile", profile)
    prepared = one_launch.prepared
    monkeypatch.setattr(one_launch, "prepared", lambda *words: prepared(*words, device="cpu"))
    for kernel in ("cpu.blocked", "torch.reference", "cpu.backward", "torch.reference_backward"):
        for dtype in ("float32", "tf32"):
            config = "" if kernel.startswith("torch") else _first_config(kernel, dtype)
            one_launch.main(one_launch.command(SHAPE, dtype, kernel, config))
    assert launched == [None] * 8
    assert precisions == ["ieee", "tf32"] * 4
    with pytest.raises(LookupError, match="no configuration 'x'"):
        one_launch.main(one_launch.command(SHAPE, "float32", "torch.reference", "x"))
    with pytest.raises(KeyError, match="no_such_kernel"):
        one_launch.main(one_launch.command(SHAPE, "float32", "no.no_such_kernel", ""))
    with pytest.raises(ValueError, match="cannot run it: the operands are on cpu"):
        one_launch.main(one_launch.command(SHAPE, "float32", "triton.tiled", ""))


def _first_config(kernel: str, dtype: str) -> str:
    from fusedops import backends
    from fusedops.bench.workload import operands
    from fusedops.plans import describe

    everything = {each.name: each for each in (*backends.kernels(), *backends.backward_kernels())}
    problem = describe(*operands(SHAPE, torch.float32, torch.device("cpu")))
    return str(everything[kernel].configs(problem)[0])


@pytest.mark.gpu
def test_a_kernel_of_this_card_under_ncu():
    try:
        figures = ncu.profile((1024, 1024, 1024), "float16", "triton.tiled", _tiled())
    except ncu.Absent as why:
        pytest.skip(str(why))
    for name in ("nanoseconds", "tensor_percent", "dram_percent", "l2_percent", "limiter"):
        assert name in figures
    assert bound_by(figures).startswith("It is bound by")


def _tiled() -> str:
    from fusedops import backends
    from fusedops.bench.workload import operands
    from fusedops.plans import describe

    problem = describe(*operands((1024, 1024, 1024), torch.float16, torch.device("cuda")))
    kernel = next(each for each in backends.kernels() if each.name == "triton.tiled")
    return str(kernel.configs(problem)[0])


def test_nothing_of_it_is_imported_before_it_is_asked_for():
    code = (
        "import sys, fusedops.tune.ncu; "
        "print([m for m in ('ncu_report', 'matplotlib', 'triton') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
