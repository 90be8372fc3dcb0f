"""Every kernel of this machine, put through the properties of fusedops.verify."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from fusedops import backends
from fusedops.registry import Accumulation, Kernel
from fusedops.verify import Case, Failure, check_kernel, check_op, data, operands
from fusedops.verify.exhaustive import epilogue_errors
from fusedops.verify.properties import available_backends
from fusedops.verify.report import Report
from fusedops.verify.runner import Plan, available_kernels, verify_kernel, verify_op

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
PLAN = Plan(CPU, examples=150, seed=1)
GPU_PLAN = Plan(CUDA, examples=300, seed=1)


def named(name: str) -> Kernel:
    found = [kernel for kernel in backends.kernels() if kernel.name == name]
    if not found:
        pytest.skip(f"{name} was not built here: nothing of it was checked")
    return found[0]


def assert_verified(name: str, plan: Plan, seen: dict[str, int]) -> None:
    present, absent = available_kernels(plan.device, [named(name)])
    if absent:
        pytest.skip(f"{name} cannot run here: {absent[0].absent}")
    tally = verify_kernel(present[0], plan)
    seen[f"{name} on {plan.device}"] = tally.examples
    assert tally.complaint is None, tally.complaint
    assert tally.examples >= plan.examples


def cpu_names() -> list[str]:
    return [each.name for each in backends.kernels() if each.backend not in ("cuda", "triton")]


@pytest.mark.parametrize("name", cpu_names())
def test_kernel_on_a_cpu(name, seen):
    assert_verified(name, PLAN, seen)


@pytest.mark.parametrize("backend", [name for name in available_backends(CPU) if name != "triton"])
def test_operator_on_a_cpu(backend):
    tally = verify_op(backend, PLAN)
    assert tally.complaint is None, tally.complaint


@pytest.mark.parametrize("name", cpu_names())
def test_epilogue_over_every_z_on_a_cpu(name):
    present, absent = available_kernels(CPU, [named(name)])
    if absent:
        pytest.skip(f"{name} cannot run here: {absent[0].absent}")
    rows = list(epilogue_errors(present[0], CPU))
    assert {(row.dtype, row.scale) for row in rows} == {
        (dtype, scale) for dtype in ("float16", "bfloat16") for scale in (1.0, 2.0, -3.0)
    }
    assert max(row.ulps for row in rows) < 1


def test_triton_under_its_interpreter(seen):
    """Triton reads TRITON_INTERPRET when it is imported, so this takes a process of its own."""
    pytest.importorskip("triton", reason="Triton is not installed: its kernels were not checked")
    command = [sys.executable, "-m", "fusedops", "verify", "--backend", "triton", "--device", "cpu"]
    run = subprocess.run(
        [*command, "--examples", "25", "--seed", "1", "--no-epilogue", "--json"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(run.stdout)
    counts = {each["subject"]: each["examples"] for each in report["kernels"]}
    seen.update({f"{name} under the interpreter": count for name, count in counts.items()})
    assert set(counts) == {"triton", *(k.name for k in backends.kernels() if k.backend == "triton")}
    absent = {each["subject"] for each in report["kernels"] if each["absent"]}
    assert absent == {"triton.pingpong"}, "the interpreter runs all but Gluon"
    assert min(count for name, count in counts.items() if name not in absent) >= 25


def gpu_names() -> list[str]:
    return [kernel.name for kernel in backends.kernels() if kernel.backend != "cpu"]


@pytest.mark.gpu
@pytest.mark.parametrize("name", gpu_names())
def test_kernel_on_a_card(name, seen):
    assert_verified(name, GPU_PLAN, seen)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["auto", "cuda", "triton", "reference"])
def test_operator_on_a_card(backend):
    if backend not in available_backends(CUDA):
        pytest.skip(f"{backend}: {backends.missing().get(backend)}")
    tally = verify_op(backend, replace(GPU_PLAN, examples=100))
    assert tally.complaint is None, tally.complaint


FLOAT32_ALONE = ("cuda.simt", "cuda.skinny_fp32", "cuda.sm90_fp32_split", "cuda.sm90_tf32")


@pytest.mark.gpu
@pytest.mark.parametrize("name", gpu_names())
def test_epilogue_over_every_z_on_a_card(name):
    present, absent = available_kernels(CUDA, [named(name)])
    if absent:
        pytest.skip(f"{name} cannot run here: {absent[0].absent}")
    assert bool(list(epilogue_errors(present[0], CUDA))) == (name not in FLOAT32_ALONE)


@pytest.mark.gpu
def test_the_card_and_the_cpu_draw_the_same_data():
    case = Case(65, 33, 17, "bfloat16", bias="same", x="sliced", specials=("nan@x",), seed=5)
    here, there = operands.build(case, CPU), operands.build(case, CUDA)
    for one, other in zip(here.inputs, there.inputs, strict=True):
        there_bits = operands.as_integers(other.buffer).cpu()
        same = operands.as_integers(one.buffer) == there_bits
        both_nan = one.buffer.isnan() & other.buffer.cpu().isnan()  # a NaN's payload may differ
        assert (same | both_nan).all()


def test_a_kernel_that_nothing_reached_fails_the_run():
    fussy = replace(backends.REFERENCE, name="reference.fussy", why_not=lambda problem: ("no",))
    present, absent = available_kernels(CPU, [fussy])
    assert present == [fussy] and not absent
    tally = verify_kernel(fussy, PLAN)
    report = Report(PLAN, tallies=[tally])
    assert tally.examples == 0
    assert report.complaints and "only 0 of 150 examples" in report.complaints[0]


def test_a_run_that_exercised_nothing_fails():
    assert Report(PLAN).complaints == ["nothing was exercised"]


def test_a_narrow_predicate_is_met_rather_than_given_up_on():
    def why_not(problem):
        sizes = problem.m <= 16 and problem.n % 16 == 0 and problem.k % 64 == 0
        return () if sizes and problem.alignment == 16 and problem.x_strides[1] == 1 else ("no",)

    narrow = replace(backends.REFERENCE, name="reference.narrow", why_not=why_not)
    tally = verify_kernel(narrow, PLAN)
    assert tally.complaint is None
    assert tally.examples == PLAN.examples


def test_a_case_is_rebuilt_from_its_text():
    case = Case(
        m=6,
        n=17,
        k=5,
        dtype="bfloat16",
        bias="float32",
        scale=-0.1,
        x="sliced",
        weight="transposed",
        x_offset=1,
        batch=3,
        data="positive",
        magnitude=1e-3,
        specials=("inf@x", "-inf@weight"),
        config=3,
        seed=99,
    )
    again = Case.parse(str(case))
    assert again == case
    first, second = operands.build(case, CPU), operands.build(again, CPU)
    for one, other in zip(first.inputs, second.inputs, strict=True):
        assert torch.equal(operands.as_integers(one.buffer), operands.as_integers(other.buffer))


@pytest.mark.parametrize(
    "text", ["m=1", "m=1,n=2,k=3,colour=red", "m=1,n=2,k=x", "m=1,n=2,k=3,x=?"]
)
def test_a_text_that_is_no_case_says_so(text):
    with pytest.raises(ValueError, match=r"case|followed by|must be|invalid literal"):
        Case.parse(text)


def test_a_failure_prints_the_line_that_shows_it_again():
    def prepare(problem, config):
        return lambda x, weight, bias, scale, out: out.fill_(1.0)

    broken = replace(backends.REFERENCE, name="torch.broken", prepare=prepare)
    tally = verify_kernel(broken, PLAN)
    assert tally.failure is not None
    assert f"--kernel torch.broken --case '{tally.failure.case}'" in tally.failure.replay
    text = tally.failure.replay.split("'")[1]
    with pytest.raises(Failure, match="times the bound"):
        check_kernel(broken, Case.parse(text), CPU)


def test_a_kernel_is_held_to_the_accuracy_it_declares():
    boastful = replace(
        backends.REFERENCE, accumulation=lambda problem: Accumulation(2.0**-53), name="torch.boast"
    )
    assert verify_kernel(boastful, PLAN).failure is not None


def test_the_operator_answers_empty_problems():
    for text in ("m=0,n=5,k=3", "m=5,n=0,k=3,bias=same", "m=5,n=3,k=0,bias=float32,dtype=float16"):
        for backend in available_backends(CPU):
            assert check_op(Case.parse(text), backend, CPU) is not None


def test_drawn_data_looks_as_it_should():
    normal = data.normal(3, 0, (1000, 100), CPU)
    assert abs(normal.mean().item()) < 0.02 and abs(normal.std().item() - 1) < 0.01
    positive = data.positive(3, 0, (100_000,), CPU)
    assert positive.min() >= 0 and positive.max() < 1 and abs(positive.mean().item() - 0.5) < 0.01
    integers = data.integers(3, 0, (10_000,), CPU)
    assert sorted(integers.unique().tolist()) == list(range(-4, 5))
    assert not torch.equal(data.normal(3, 0, (50,), CPU), data.normal(4, 0, (50,), CPU))
    assert not torch.equal(data.normal(3, 0, (50,), CPU), data.normal(3, 1, (50,), CPU))
