"""What goes wrong around a search: starts, failures, damaged journals, kills, two runs at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from fusedops import backends, tables
from fusedops.__main__ import main
from fusedops.registry import RTX_4090, Measurement, Problem
from fusedops.tune import begin, command, figures, judge, pool
from fusedops.tune.neighbours import Map
from fusedops.tune.trial import FAILED, REVERTED, Session

TARGET = ("--target", "sm_89")
SKINNY = ("--shape", "8x512x512", "--kernel", "triton.skinny", "--dtype", "float16", *TARGET)


def tune(tmp_path, *arguments):
    folder = tmp_path / "out"
    status = main(["tune", "--out", str(folder), "--jobs", "1", *arguments])
    path = folder / "session.json"
    return status, Session.read(path) if path.exists() else None


@pytest.fixture
def own_tables(tmp_path, monkeypatch):
    """Tables that are nobody's; returns what adds a row for a kernel of an RTX 4090."""
    monkeypatch.setenv("FUSEDOPS_TABLES", str(tmp_path / "tables"))
    tables.forget()

    def add(shape, kernel, config):
        row = Measurement(*shape, "float16", kernel, config, 1.0, "test")
        tables.apply([row], RTX_4090.name, RTX_4090.capability)

    yield add
    monkeypatch.undo()
    tables.forget()


def tiled():
    return next(each for each in backends.kernels() if each.name == "triton.tiled")


# Starts


def test_a_start_outside_the_space_is_tried_all_the_same(tmp_path, own_tables, monkeypatch):
    """What differs in its name alone from another is not in the space, but may be in a table."""
    start = "128x128x64_w8_s2_g16"
    own_tables((2048, 8192, 8192), "triton.tiled", start)
    problem = Problem.contiguous(1000, 8200, 8192, torch.float16, card=RTX_4090)
    assert start not in map(str, tiled().tuned_over(problem).configs)
    plain = figures.of_target

    def quickly(kernel, problem, config):
        if str(config) != start:
            raise RuntimeError("it is not compiled here")
        return plain(kernel, problem, config)

    monkeypatch.setattr(figures, "of_target", quickly)
    status, found = tune(
        tmp_path, "--shape", "1000x8200x8192", "--dtype", "float16", "--kernel", "triton.tiled",
        *TARGET,
    )  # fmt: skip
    assert status == 0 and not found.failed
    assert found.trials[0].config == found.best[0].trial.config == start


def test_a_start_that_is_gone_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(begin, "measured_starts", lambda kernel, problem: ["gone"])
    status, found = tune(tmp_path, *SKINNY, "--budget", "0")
    assert status == 0 and not found.failed


def test_a_new_row_leaves_the_journal_as_it_is(tmp_path, own_tables, capsys):
    _, whole = tune(tmp_path, *SKINNY)
    chosen = whole.trials[3].config
    own_tables((8, 512, 512), "triton.skinny", chosen)
    _, found = tune(tmp_path, *SKINNY)
    said = capsys.readouterr().err
    assert f"{len(whole.trials)} trials found" in said and "aside" not in said
    assert found.trials == whole.trials and found.best[0].trial == whole.best[0].trial


# Whatever fails


def test_what_fails_in_one_kernel_is_written_down_and_the_others_are_tuned(tmp_path, monkeypatch):
    def broken(kernel, problem):
        if kernel.name == "triton.skinny":
            raise OverflowError("int too large to convert to float\nand more")
        return []

    monkeypatch.setattr(begin, "measured_starts", broken)
    status, found = tune(
        tmp_path, "--shape", "8x64x64", "--dtype", "float16", "--kernel",
        "triton.skinny,cuda.skinny", *TARGET,
    )  # fmt: skip
    assert status == 1
    what = {"8x64x64 triton.skinny": "OverflowError: int too large to convert to float"}
    assert found.failed == what
    assert {each.trial.kernel for each in found.best} <= {"cuda.skinny"}
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Failed:\n- 8x64x64 triton.skinny: OverflowError" in text


# Rounds


@given(st.lists(st.floats(1, 2), min_size=1, max_size=judge.LEAST_ROUNDS - 1))
def test_too_few_rounds_never_adopt(times):
    found = judge.compare([0.5 * each for each in times], times)
    assert found.noise is None
    assert judge.verdict(found)[0] == REVERTED


def test_the_least_rounds_are_those_whose_interval_is_not_cut_off():
    """Nor would the chance that the extremes miss the median allow fewer."""
    least = judge.LEAST_ROUNDS
    assert 2.0 ** (1 - least) <= 0.05 < 2.0 ** (2 - least)
    reach = judge.CONFIDENCE * least**0.5 / 2
    assert (least - 1) / 2 - reach >= 0
    scattered = [0.8 + 0.01 * each for each in range(least)]
    found = judge.compare(scattered, [1.0] * least)
    assert found.noise == pytest.approx(0.025)


# Reports and sessions


def test_the_command_in_a_report_can_be_typed(monkeypatch):
    words = [
        "tune",
        "--shape",
        "8x8x8",
        "--out",
        "/some/where/tune",
        "--json=a/b",
        "--kernel",
        "a b",
    ]
    monkeypatch.setattr(sys, "argv", ["-", *words])
    assert command.command() == "python -m fusedops tune --shape 8x8x8 --kernel 'a b'"


# Requests that a kernel cannot serve


@pytest.mark.parametrize(
    ("shape", "kernel", "why"),
    [
        ("1024x64x64", "triton.skinny", "up to 32"),
        ("64x64x64", "cpu.blocked", "it runs on CPU tensors"),
        ("9999999999999x1x1", "all", "a grid holds at most"),
    ],
)
def test_what_can_run_nowhere_is_refused_with_its_reasons(shape, kernel, why, tmp_path, capsys):
    status, found = tune(tmp_path, "--shape", shape, "--kernel", kernel, *TARGET)
    assert status == 2 and found is None
    said = capsys.readouterr()
    assert why in said.err and "nothing was tuned" in said.err
    assert "no candidate was found" not in said.out


def test_a_named_kernel_that_cannot_run_is_no_success_beside_one_that_can(tmp_path, capsys):
    status, found = tune(
        tmp_path, "--shape", "8x64x64", "--kernel", "triton.skinny,cpu.blocked", "--budget", "0",
        *TARGET,
    )  # fmt: skip
    assert status == 2 and found is not None
    assert "not tuned: cpu.blocked" in capsys.readouterr().err


# Files


def test_two_runs_in_one_folder_are_refused(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        status, found = tune(tmp_path, *SKINNY, "--budget", "0")
    assert status == 2 and found is None
    assert "another run is at work" in capsys.readouterr().err
    assert tune(tmp_path, *SKINNY, "--budget", "0")[0] == 0


def test_a_folder_in_place_of_a_report_is_said_and_the_session_is_kept(tmp_path, capsys):
    (tmp_path / "out" / "report.md").mkdir(parents=True)
    status, found = tune(tmp_path, *SKINNY, "--budget", "0")
    assert status == 2 and found is not None
    assert "the report cannot be written" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.unfinished"))


# Processes that compile ahead

PARENT = """
import sys, time, torch
from fusedops import backends
from fusedops.registry import H200, Problem
from fusedops.tune.pool import Pool

if __name__ == "__main__":
    tiled = next(each for each in backends.kernels() if each.name == "triton.tiled")
    problem = Problem.contiguous(96, 96, 96, torch.float16, card=H200)
    pool = Pool(2)
    configs = tiled.configs(problem)[:1]
    pool.expect(tiled, problem, configs)
    pool.wait(tiled, problem, configs[0])
    print(*pool._workers._processes, flush=True)
    time.sleep(600)
"""


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    workers = [int(each) for each in parent.stdout.readline().split()]
    assert workers and all(map(is_there, workers))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 30
    while any(map(is_there, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    left = [each for each in workers if is_there(each)]
    for each in left:
        os.kill(each, signal.SIGKILL)
    assert not left


def test_without_its_workers_a_search_compiles_as_it_goes():
    problem = Problem.contiguous(96, 96, 96, torch.float16, card=RTX_4090)
    configs = tiled().configs(problem)[:2]

    class Killed:
        def submit(self, *words):
            raise pool.BrokenProcessPool

    ahead = pool.Pool(2)
    ahead._workers = Killed()
    ahead.expect(tiled(), problem, configs)
    ahead.expect(tiled(), problem, configs)
    ahead.wait(tiled(), problem, configs[0])


def test_a_map_may_have_starts_of_its_own():
    problem = Problem.contiguous(1000, 8200, 8192, torch.float16, card=RTX_4090)
    space = tiled().tuned_over(problem)
    name = "128x128x64_w8_s2_g16"
    some = Map(space, {name: tiled().config_named(problem, name)})
    assert len(some.configs) == len(space.configs) + 1
    assert some.around(name) and FAILED not in some.configs
