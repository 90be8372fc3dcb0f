"""The commands, as a user types them."""

from __future__ import annotations

import json

import pytest

from fusedops.__main__ import main
from fusedops.cli import doctor


def test_run_shows_the_kernel_the_error_and_the_time(capsys):
    assert main(["run", "--device", "cpu", "--shape", "64x48x32", "--rounds", "2"]) == 0
    shown = capsys.readouterr().out
    for part in ("because", "plain PyTorch", "torch.reference", "largest error", "Try next"):
        assert part in shown


@pytest.mark.parametrize("arch", ["sm_89", "sm_90", "cpu"])
def test_explain_answers_for_any_card(arch, capsys):
    problem = ["explain", "--m", "1024", "--n", "8192", "--k", "8192", "--arch", arch]
    assert main(problem) == 0
    assert "because" in capsys.readouterr().out
    assert main([*problem, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["kernel"] in [each["kernel"] for each in answer["candidates"]]


def test_explain_refuses_with_reasons(capsys):
    problem = ["explain", "--m", "8", "--n", "8", "--k", "8", "--arch", "cpu"]
    assert main([*problem, "--backend", "triton.tiled"]) == 1
    assert "triton.tiled" in capsys.readouterr().out


def explained(capsys, *more: str) -> tuple[int, str]:
    status = main(["explain", "--m", "64", "--n", "64", "--k", "64", *more])
    shown = capsys.readouterr()
    return status, shown.out + shown.err


def test_explain_takes_batch_invariance_from_the_environment(capsys, monkeypatch):
    monkeypatch.setenv("FUSEDOPS_BATCH_INVARIANT", "1")
    status, shown = explained(capsys, "--arch", "sm_90")
    assert (status, "batch-invariant" in shown) == (0, True)
    monkeypatch.setenv("FUSEDOPS_BATCH_INVARIANT", "2")
    status, shown = explained(capsys, "--arch", "sm_90")
    assert (status, "it must be 0 or 1" in shown) == (1, True)


def test_explain_takes_pytorchs_switches(capsys):
    for dtype, switch, says in (
        ("float32", "--allow-tf32", "fp32 precision tf32"),
        ("float16", "--allow-fp16-accumulation", "fp16 accumulation allowed"),
    ):
        status, shown = explained(capsys, "--arch", "sm_90", "--dtype", dtype, switch)
        assert (status, says in shown) == (0, True)
        status, shown = explained(capsys, "--dtype", "bfloat16", switch)
        assert (status, f"a switch of {dtype}'s" in shown) == (2, True)


def test_doctor_lists_what_there_is(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for part in ("torch", "nvcc", "cuda", "cpu.blocked", "cpu.backward", "tables", "settings"):
        assert part in shown
    assert main(["doctor", "--settings"]) == 0
    assert "FUSEDOPS_BACKEND" in capsys.readouterr().out


def test_doctor_survives_whatever_is_broken(capsys, monkeypatch):
    def broken() -> None:
        raise OSError("the driver is on fire")

    monkeypatch.setattr(doctor, "PROBES", dict.fromkeys(doctor.PROBES, broken))
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert all("the driver is on fire" in each for each in report.values())


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (["run", "--shape", "64x48"], "MxNxK"),
        (["run", "--rounds", "0"], "from 1 up"),
        (["verify", "--examples", "0"], "from 1 up"),
        (["verify", "--examples", "-1"], "from 1 up"),
        (["verify", "--largest", "0"], "from 1 up"),
    ],
)
def test_nonsense_is_a_usage_error(request_, complaint, capsys):
    with pytest.raises(SystemExit):
        main(request_)
    assert complaint in capsys.readouterr().err
