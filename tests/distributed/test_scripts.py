"""The example and the benchmark start their own processes; here they do, briefly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_script(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=dict(os.environ, CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not (ROOT / "examples").is_dir(), reason="these are the repository's")
def test_the_example_has_plain_pytorchs_loss_curve():
    said = run_script(str(ROOT / "examples" / "train_tensor_parallel.py"), "--steps", "12")
    assert "4 processes on cpu" in said
    first, *_, last = [line.split() for line in said.splitlines() if line.startswith("step")]
    assert float(last[-1]) < 0.5 * float(first[-1])
    assert abs(float(last[-1]) - float(last[3])) < 1e-4


@pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="these are the repository's")
def test_the_benchmark_checks_and_times_itself(tmp_path):
    result = tmp_path / "result.json"
    script = str(ROOT / "benchmarks" / "tensor_parallel.py")
    run_script(script, "--shapes", "32x48x16", "--rounds", "1", "--json", str(result))
    report = json.loads(result.read_text())
    assert {each["verdict"] for each in report["checks"]} == {"right"}
    assert len(report["times"][0]["microseconds"]) == 12
