"""The benchmark: what it measures, what it writes, what it refuses."""

from __future__ import annotations

import argparse
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusedops import backends
from fusedops.__main__ import main
from fusedops.bench import measure, peers
from fusedops.bench.candidates import AUTO, gather
from fusedops.bench.peaks import FP16_ACCUMULATION, PEAKS, TF32, copy_bandwidth
from fusedops.bench.plot import draw
from fusedops.bench.report import COLD_L2, GRAPH, Columns, Report, Row, command
from fusedops.bench.suite import ready
from fusedops.bench.table import table_so_far, write_table
from fusedops.bench.workload import GRID, SMALL_M, operands
from fusedops.cli.bench import add_arguments, default_shapes, nonsense, suite_of
from fusedops.registry import FEW_ROWS, H200, RTX_4090, Measurement, Table

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
ON_THE_CPU = ["bench", "--device", "cpu", "--rounds", "2"]


def bench(tmp_path: Path, *more: str) -> Report:
    written = tmp_path / "bench.json"
    assert main([*ON_THE_CPU, *more, "--json", str(written)]) == 0
    return Report.read(written)


def test_one_row_a_shape_and_everything_needed_to_do_it_again(tmp_path, capsys):
    report = bench(tmp_path, "--shapes", "16x16x16,8x24x16", "4x8x8", "--peers", "eager,seed,quack")
    assert [row.shape for row in report.rows] == [(16, 16, 16), (8, 24, 16), (4, 8, 8)]
    for row in report.rows:
        assert {"mm", "eager", AUTO, "torch.reference"} <= set(row.microseconds)
        assert all(time > 0 for time in row.microseconds.values())
        assert row.error_over_bound[AUTO] <= 1
        assert "mm" not in row.error_over_bound  # it does not compute the op
        assert row.floor is None
        assert row.chosen
    assert set(report.absent) == {"seed", "quack"}
    assert report.rounds == 2
    assert report.dtype == "float32"
    assert report.host_microseconds["F.linear"] > 0
    shown = capsys.readouterr()
    assert "absent: quack: quack-kernels is not installed" in shown.out
    assert shown.out.count("\n16x16x16 ") == 1
    assert "[3/3] 4x8x8: timing" in shown.err


def test_only_the_kernels_asked_for(tmp_path):
    report = bench(tmp_path, "--shapes", "8x8x8", "--kernels", "torch.reference", "--peers", "mm")
    assert set(report.rows[0].microseconds) == {"mm", AUTO, "torch.reference"}


@pytest.mark.parametrize("name", peers.FUNCTIONS)
def test_a_file_beside(name, tmp_path):
    beside = tmp_path / "mine.py"
    beside.write_text(
        "import torch\n"
        f"def {name}(x, weight, bias, scale):\n"
        "    z = torch.nn.functional.linear(x, weight, bias)\n"
        "    return z + scale * torch.sigmoid(z)\n"
    )
    report = bench(tmp_path, "--shapes", "8x8x8", "--peers", "mm", "--beside", str(beside))
    assert report.rows[0].microseconds["mine"] > 0


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (["--rounds", "0"], "from 1 up"),
        (["--shapes", "8x8"], "MxNxK"),
        (["--shapes", ","], "no shape"),
        (["--shapes", "8x8x0"], "from 1 up"),
        (["--peers", "mm,magic"], "unknown: magic; known: mm, eager"),
        (["--kernels", "torch.magic"], "unknown: torch.magic; known:"),
        (["--dtype", "int8"], "known dtypes"),
        (["--dtype", "bfloat16", "--allow-tf32"], "switch of float32's, and this is bfloat16"),
        (["--allow-fp16-accumulation"], "switch of float16's, and this is float32"),
        (["--graph"], "needs a CUDA device"),
        (["--table", "t.json"], "--configs"),
        (["--table", "t.json", "--graph"], "not allowed with"),
        (["--json", "no/such/folder/f.json"], "no folder"),
        (["--json", "/tmp"], "is no file"),
        (["--beside", "nothing.py"], "no file"),
        (["--device", "magic"], "is no device"),
        (["--device", "meta"], "not on meta"),
        (["--device", "cpu:7"], "no device cpu:7"),
    ],
)
def test_nonsense_is_refused_in_a_line(request_, complaint, capsys):
    try:
        status = main([*ON_THE_CPU, *request_])
    except SystemExit as exit_:
        status = exit_.code
    assert status
    shown = capsys.readouterr().err + (status if isinstance(status, str) else "")
    assert complaint in shown.splitlines()[-1]


def test_no_plot_without_matplotlib(capsys, monkeypatch):
    monkeypatch.setattr("fusedops.cli.bench.find_spec", lambda name: None)
    assert main([*ON_THE_CPU, "--plot", "f.png"]) == 2
    assert "fusedops[plot]" in capsys.readouterr().err


def test_no_plot_of_an_unknown_kind(capsys):
    pytest.importorskip("matplotlib")
    assert main([*ON_THE_CPU, "--plot", "p.xyz"]) == 2
    assert ".png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("def (", "SyntaxError"), ("{}['x']", "KeyError: 'x'"), ("", "defines no gemm_sig_res")],
)
def test_a_file_beside_that_cannot_be_used_is_refused(text, complaint, tmp_path, capsys):
    beside = tmp_path / "mine.py"
    beside.write_text(text)
    assert main([*ON_THE_CPU, "--beside", str(beside)]) == 2
    assert complaint in capsys.readouterr().err


def test_only_a_kernel_that_cannot_run_leaves_the_peers(tmp_path, monkeypatch):
    unable = replace(backends.REFERENCE, name="torch.unable", why_not=lambda problem: ("no",))
    monkeypatch.setattr("fusedops.backends.kernels", lambda: (unable, backends.REFERENCE))
    options = ["--shapes", "8x8x8", "--configs", "--kernels", "torch.unable", "--peers", "mm"]
    assert set(bench(tmp_path, *options).rows[0].microseconds) == {"mm", AUTO}


@pytest.mark.parametrize("joined", [True, False])
def test_the_command_is_told_without_folders(joined, monkeypatch):
    file = ["--json=/tmp/a/b.json"] if joined else ["--json", "/tmp/a/b.json"]
    monkeypatch.setattr(sys, "argv", ["x", "bench", "--rounds=9", *file, "--shapes", "1x2x3"])
    written = " ".join(file).replace("/tmp/a/", "")
    assert command() == f"python -m fusedops bench --rounds=9 {written} --shapes ..."


def test_a_kernel_outside_its_bound_is_named_and_not_timed(tmp_path, capsys, monkeypatch):
    def wrong(problem, config):
        return lambda x, weight, bias, scale, out: out.zero_()

    def broken(problem, config):
        raise RuntimeError("it is broken\nin many lines")

    kernels = (
        replace(backends.REFERENCE, name="torch.wrong", prepare=wrong),
        replace(backends.REFERENCE, name="torch.broken", prepare=broken),
    )
    present, _ = ready([], CPU, torch.float32)
    found = gather(operands((4, 4, 4), torch.float32, CPU), present, kernels)
    assert set(found.ops) == {"mm", AUTO}
    assert "times the bound" in found.failures["torch.wrong"]
    assert found.failures["torch.broken"] == "RuntimeError: it is broken"
    monkeypatch.setattr("fusedops.backends.kernels", lambda: (*kernels, backends.REFERENCE))
    assert main([*ON_THE_CPU, "--shapes", "4x4x4", "--peers", "mm"]) == 1
    assert "not timed: torch.wrong" in capsys.readouterr().out


def test_a_shape_too_large_for_the_card_is_not_the_end(tmp_path, capsys, monkeypatch):
    def too_much(self, shape, announce):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nmore")

    written = tmp_path / "bench.json"
    monkeypatch.setattr("fusedops.bench.suite.Suite._measured", too_much)
    shapes = ["--shapes", "4x4x4,8x8x8", "--json", str(written), "--peers", "mm"]
    assert main([*ON_THE_CPU, *shapes]) == 1
    assert "not timed: the shape: CUDA out of memory.\n" in capsys.readouterr().out
    assert len(Report.read(written).rows) == 2


def test_a_peer_may_err_and_may_fail():
    def failing(x, weight, bias):
        raise ValueError("no")

    sloppy = peers.Peer("sloppy", lambda device, dtype: lambda x, w, b: x @ w.t())
    failed = peers.Peer("failed", lambda device, dtype: failing)
    present, absent = ready([sloppy, failed], CPU, torch.float32)
    assert not absent
    found = gather(operands((4, 4, 4), torch.float32, CPU), present, ())
    assert "sloppy" in found.ops
    assert found.error_over_bound["sloppy"] > 1
    assert found.failures == {"failed": "ValueError: no"}


def test_the_front_keeps_the_peers_and_each_kernels_best():
    times = {"mm": 50.0, AUTO: 60.0, "a.one x": 10.0, "a.one y": 11.0, "a.one z": 13.0}
    times |= {"b.two x": 40.0, "b.two y": 41.0}
    calls = dict.fromkeys(times, lambda: None)
    assert set(measure.front(calls, times)) == {"mm", AUTO, "a.one x", "a.one y", "b.two x"}


def test_floors():
    h200, rtx = PEAKS[H200.name], PEAKS[RTX_4090.name]
    half, single = torch.bfloat16, torch.float32
    assert h200.floor((1, 4096, 4096), half) == pytest.approx(7.8, rel=0.01)  # the weight's bytes
    assert h200.floor((8192, 8192, 8192), half) == pytest.approx(1111, rel=0.01)  # the products
    assert h200.floor((8192, 8192, 8192), single) == pytest.approx(6668, rel=0.01)  # three of TF32
    assert h200.floor((8192, 8192, 8192), single, TF32) == pytest.approx(2223, rel=0.01)
    assert rtx.floor((8192, 8192, 8192), half) == pytest.approx(6656, rel=0.01)


def test_a_row_as_text():
    row = Row((1, 2, 3), 5.0, "a.one x", {"mm": 20.0, AUTO: 10.0, "a.one x": 9.5, "a.one y": 8.25})
    columns = Columns(["mm", "quack"], ["a.one", "b.two"])
    assert "A a.one" in columns.header()
    assert columns.row(row).split() == [
        "1x2x3",
        "5.00",
        "20.0",
        "-",
        "10.0",
        "8.25",
        "-",
        "|",
        "2.00",
        "-",
        "50",
    ]


def of_a_card(monkeypatch, name: str = "a card") -> None:
    facts = {"device_name": name, "capability": (9, 0)}
    monkeypatch.setattr("fusedops.bench.table.device_facts", lambda device: facts)


def a_report(dtype: str, precision: str, times: dict[str, float], date: str = "") -> Report:
    rows = [Row((1, 2, 3), None, "", times)]
    return Report(date, "", {}, 1, "", dtype, precision, "", 1, "", {}, rows)


def test_the_table_lists_what_was_timed_and_keeps_the_rest(tmp_path, monkeypatch):
    of_a_card(monkeypatch)
    path = tmp_path / "table.json"

    def add(dtype: str, precision: str, times: dict[str, float], date: str) -> set[Measurement]:
        before = table_so_far(path, CPU)
        write_table(path, before, a_report(dtype, precision, times, date))
        return set(Table.read(path).measurements)

    def row(dtype: str, kernel: str, config: str, time: float, date: str) -> Measurement:
        return Measurement(1, 2, 3, dtype, kernel, config, time, f"{date}, , : ")

    add("float16", "ieee", {"mm": 1.0, AUTO: 2.0, "a.one x": 4.0}, "Monday")
    add("float32", "ieee", {"a.one y": 6.0, "a.two": 5.0}, "Tuesday")
    add("float32", TF32, {"a.two": 4.5, "a.three x": 3.0}, "Wednesday")
    times = {"a.one z": 3.0, "a.two far": 3.4, "a.three near": 3.2}
    add("float16", "ieee", times, "Thursday")
    assert add("float16", FP16_ACCUMULATION, {"a.four": 2.0}, "Friday") == {
        row("float16", "a.one", "z", 3.0, "Thursday"),
        row("float16", "a.three", "near", 3.2, "Thursday"),
        row("float16", "a.four", "", 2.0, "Friday"),
        row("float32", "a.two", "", 5.0, "Tuesday"),
        row("tf32", "a.three", "x", 3.0, "Wednesday"),
    }
    assert not any("Monday" in origin for origin in Table.read(path).origins)


def test_a_table_is_one_cards(tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    of_a_card(monkeypatch)
    write_table(path, table_so_far(path, CPU), a_report("float16", "ieee", {"a.one x": 4.0}))
    of_a_card(monkeypatch, "CARD B")
    with pytest.raises(ValueError, match="table of a card; this is CARD B"):
        table_so_far(path, CPU)


@pytest.mark.parametrize("text", ["{", "[]", '{"device": "a card"}', '{"a": "table"}'])
def test_what_is_no_table_is_refused_before_anything_is_timed(text, tmp_path, monkeypatch):
    of_a_card(monkeypatch)
    path = tmp_path / "table.json"
    path.write_text(text)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    request = parser.parse_args(["--configs", "--table", str(path)])
    assert f"{path} is no table" in next(nonsense(request, torch.device("cuda")))


def test_a_table_is_written_row_by_row_and_whole(tmp_path, monkeypatch):
    """An interrupted run keeps the shapes that are done; an interrupted write, the old file."""
    of_a_card(monkeypatch)
    path = tmp_path / "table.json"

    def interrupted(*_):
        raise KeyboardInterrupt

    def measured(self, shape, announce):
        return Row(shape, None, "", {"a.one x": 4.0}) if shape == (8, 8, 8) else interrupted()

    monkeypatch.setattr("fusedops.bench.suite.Suite.row", measured)
    monkeypatch.setattr("fusedops.cli.bench.nonsense", lambda *_: iter(()))
    run = [*ON_THE_CPU, "--configs", "--shapes", "8x8x8,9x9x9", "--table", str(path)]
    with pytest.raises(KeyboardInterrupt):
        main(run)
    assert [row.shape for row in Table.read(path).measurements] == [(8, 8, 8)]
    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_table(path, table_so_far(path, CPU), a_report("float16", "ieee", {"a.one x": 4.0}))
    assert [row.shape for row in Table.read(path).measurements] == [(8, 8, 8)]


@pytest.mark.parametrize(
    ("options", "replayed", "shapes", "method"),
    [
        ([], [False, False], GRID, COLD_L2),
        (["--graph"], [True, True], SMALL_M, GRAPH),
        (["--table", "t"], [True, False], {*GRID, *SMALL_M}, f"{COLD_L2}; M up to 64: {GRAPH}"),
    ],
)
def test_a_table_takes_few_rows_from_graphs(options, replayed, shapes, method, monkeypatch):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    request = parser.parse_args(
        ["--configs", "--peers", "mm", "--shapes", f"{FEW_ROWS}x8x8,{FEW_ROWS + 1}x8x8", *options]
    )
    suite = suite_of(request, CPU)

    for name in ("replayed", "call_by_call"):
        monkeypatch.setattr(f"fusedops.bench.suite.{name}", lambda *_, name=name: {name: 1.0})
    rows = suite.rows(lambda message: None)
    assert ["replayed" in row.microseconds for row in rows] == replayed
    card = torch.device("cuda")
    assert sorted(default_shapes(request, card)) == sorted(shapes)
    assert replace(suite, device=card).method == method


def test_the_documentation_shows_the_committed_results(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "benchmarks" / "tables.py"), run_name="__main__")
    assert ended.value.code == 0, capsys.readouterr().out


def test_a_step_that_fails_is_named_and_the_next_one_runs(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\ncase "$*" in *tf32*) exit 3;; esac\n')
    python.chmod(0o755)
    folder = tmp_path / "report"
    script = [str(ROOT / "benchmarks" / "measure.sh"), str(python), str(folder), "card"]
    steps = ["table_float32_tf32", "table_float16_accumulation", "table_bfloat16"]
    done = subprocess.run(["bash", *script, *steps], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "table_float32_tf32: exit status 3" in done.stdout
    ran = [line for line in done.stdout.splitlines() if line.startswith("-m fusedops bench")]
    for words, wanted in zip(
        ran, ("--allow-tf32", "--allow-fp16-accumulation", "bfloat16"), strict=True
    ):
        assert {wanted, "--configs", f"{folder}/card_table.json"} <= set(words.split())


def test_what_a_table_loses_at_a_shape_left_out(tmp_path, monkeypatch, capsys):
    rows = (
        Measurement(m, 64, 64, "float16", "torch.reference", "None", time)
        for m, time in ((128, 4.0), (256, 5.0))
    )
    table = Table(H200.name, H200.capability, (*rows, Measurement(1, 8, 8, "tf32", "a.b", "", 1.0)))
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table.document()))
    monkeypatch.setattr(sys, "argv", ["left_out.py", str(path)])
    runpy.run_path(str(ROOT / "benchmarks" / "left_out.py"), run_name="__main__")
    assert capsys.readouterr().out == (
        "float16: 2 shapes, 0.0 % over the fastest, 0 choices not listed\n"
        "tf32: 1 shapes, 10.0 % over the fastest, 1 choices not listed\n"
    )


def test_a_plot_from_the_results_alone(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = tmp_path / "plot.png"
    results = ROOT / "benchmarks" / "results" / "h200_cold_bfloat16.json"
    monkeypatch.setattr(sys, "argv", ["plot.py", str(results), str(drawn)])
    runpy.run_path(str(ROOT / "benchmarks" / "plot.py"))
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_a_plot_shows_all_of_the_floor_and_of_the_kernels(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(plt, "close", lambda figure: shown.append(figure.axes[0].get_ylim()))
    times = {"mm": 100.0, AUTO: 4.0, "a.one": 5.0, "cuda.two": 900.0}
    rows = [Row((1, 2, 3), 2.0, "", times)]
    draw(Report("", "", {}, 1, "", "float32", "ieee", "", 1, "", {}, rows), tmp_path / "plot.png")
    ((low, high),) = shown
    assert low < 100 / 900 and high > 50


def test_kernelbenchs_problem(tmp_path, monkeypatch, capsys):
    example = runpy.run_path(str(ROOT / "examples" / "kernelbench_level2_70.py"))
    written = tmp_path / "kernelbench.json"
    monkeypatch.setattr(sys, "argv", ["example", "--json", str(written)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "compile", lambda model: model)
    example["main"]()
    assert set(json.loads(written.read_text())["results"]) == {"float32", "float16"}
    assert "correct in 5 trials" in capsys.readouterr().out


def test_kernelbenchs_harness_finds_its_names(monkeypatch):
    example = runpy.run_path(str(ROOT / "examples" / "kernelbench_level2_70.py"))
    globals_ = example["get_inputs"].__globals__
    for name in ("BATCH_SIZE", "INPUT_SIZE", "HIDDEN_SIZE"):
        monkeypatch.setitem(globals_, name, 16)
    for model in ("Model", "ModelNew"):
        made = example[model](*example["get_init_inputs"]())
        with torch.no_grad():
            assert made(*example["get_inputs"]()).shape == (16, 16)


@pytest.mark.gpu
def test_weights_are_cold_and_distinct_in_a_graph():
    card = torch.device("cuda")
    x, weight, bias = operands((4, 256, 128), torch.bfloat16, card)
    weights = list(measure.distinct_weights(weight))
    l2 = torch.cuda.get_device_properties(card).L2_cache_size
    assert sum(each.nbytes for each in weights) >= measure.WEIGHTS_OVER_L2 * l2
    assert len({each.data_ptr() for each in weights}) == len(weights)
    present, _ = ready([peers.PEERS["eager"]], card, torch.bfloat16)
    found = gather((x, weight, bias), present, (backends.REFERENCE,))
    times = measure.replayed(found, (x, weight, bias), 2, False)
    assert not found.failures
    assert set(times) == {"mm", "eager", AUTO, "torch.reference"}
    assert all(time > 0 for time in times.values())


@pytest.mark.gpu
def test_a_replay_of_stale_results_is_caught():
    card = torch.device("cuda")
    data = operands((4, 4096, 4096), torch.bfloat16, card)
    first = []

    def remembering(problem, config):
        def launch(x, weight, bias, scale, out):
            first.append(weight)
            backends.REFERENCE.prepare(problem, None)(x, first[0], bias, scale, out)

        return launch

    stale = replace(backends.REFERENCE, name="torch.stale", prepare=remembering)
    found = gather(data, ready([], card, torch.bfloat16)[0], (stale,))
    assert "torch.stale" not in measure.replayed(found, data, 1, False)
    assert "exceeds the bound" in found.failures["torch.stale"]


@pytest.mark.gpu
def test_the_bandwidth_of_a_copy_is_plausible():
    assert 1e11 < copy_bandwidth(torch.device("cuda")) < 2e13


@pytest.mark.gpu
def test_bench_on_the_card(tmp_path):
    written, table = tmp_path / "bench.json", tmp_path / "table.json"
    command = ["bench", "--rounds", "2", "--peers", "mm,eager,seed", "--kernels", "triton.tiled"]
    more = ["--shapes", "64x512x512", "--configs", "--json", str(written), "--table", str(table)]
    assert main([*command, *more]) == 0
    assert Report.read(written).rows[0].floor is not None
    assert Table.read(table).measurements
    assert Report.read(written).method == GRAPH
    assert main([*command, "--graph", "--shapes", "4x1024x1024"]) == 0
