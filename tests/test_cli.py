"""The commands, as a user types them."""

from __future__ import annotations

import json

import pytest

from fusedops.__main__ import main


def test_run_shows_the_kernel_the_error_and_the_time(capsys):
    assert main(["run", "--device", "cpu", "--shape", "64x48x32", "--rounds", "2"]) == 0
    shown = capsys.readouterr().out
    for part in ("because", "plain PyTorch", "torch.reference", "largest error", "Try next"):
        assert part in shown


@pytest.mark.parametrize("card", ["RTX 4090", "H200", "cpu"])
def test_explain_answers_for_any_card(card, capsys):
    assert main(["explain", "--shape", "1024x8192x8192", "--card", card]) == 0
    assert "because" in capsys.readouterr().out


def test_explain_refuses_with_reasons(capsys):
    assert main(["explain", "--shape", "8x8x8", "--card", "cpu", "--backend", "triton.tiled"]) == 1
    assert "triton.tiled" in capsys.readouterr().out


def test_doctor_lists_backends_and_settings(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert all(f"backend {name}" in shown for name in ("cuda", "triton", "cpu", "reference"))
    assert main(["doctor", "--settings"]) == 0
    assert "FUSEDOPS_BACKEND" in capsys.readouterr().out


def test_bench_writes_what_it_measured(tmp_path, capsys):
    written = tmp_path / "bench.json"
    arguments = ["bench", "--device", "cpu", "--shapes", "16x16x16", "--rounds", "2"]
    assert main([*arguments, "--json", str(written)]) == 0
    report = json.loads(written.read_text())
    assert report["rows"][0]["shape"] == [16, 16, 16]
    assert "fusedops (auto)" in report["rows"][0]["microseconds"]


def test_a_bad_shape_is_a_usage_error(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--shape", "64x48"])
    assert "MxNxK" in capsys.readouterr().err
