"""What is computed for the RTX 4090, a card that nobody here has had."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusedops import backends
from fusedops.bench.peaks import FP16_ACCUMULATION, IEEE, PEAKS, TF32
from fusedops.bench.workload import GRID, SMALL_M
from fusedops.registry import RTX_4090, Problem, Request, explain, select
from fusedops.registry.table import shipped_tables
from fusedops.verify.case import Case

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TABLE = shipped_tables()[RTX_4090.name]


@pytest.fixture
def predict(monkeypatch):
    spec = importlib.util.spec_from_file_location("predict", BENCHMARKS / "sm80" / "predict.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "predict", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_table_says_that_it_was_computed():
    assert {row.how for row in TABLE.measurements} == {"computed"}
    assert all(origin.startswith("computed, not measured") for origin in TABLE.origins)
    kernels = [each for each in backends.kernels() if each.name == "cuda.sm80_multistage"]
    if not kernels:
        pytest.skip("the CUDA C++ backend was not built: nothing to choose between")
    problem = Problem.contiguous(4096, 4096, 4096, torch.bfloat16, card=RTX_4090)
    assert "computed" in explain(problem, Request(), kernels, {}, TABLE).why


def test_float16_sums_are_taken_where_they_are_allowed_and_pay():
    kernels = [each for each in backends.kernels() if each.name.startswith("cuda.sm80")]
    if not kernels:
        pytest.skip("the CUDA C++ backend was not built: nothing to choose between")
    plain = Problem.contiguous(4096, 4096, 4096, torch.float16, card=RTX_4090)
    allowed = replace(plain, allow_fp16_accumulation=True)
    for table in (TABLE, None):
        names = [
            select(each, Request(), kernels, {}, table).kernel.name for each in (plain, allowed)
        ]
        assert names == ["cuda.sm80_multistage", "cuda.sm80_fp16_accumulation"]


def test_a_case_asks_for_float16_sums_of_float16_alone():
    cpu = torch.device("cpu")
    case = Case.parse("m=1,n=1,k=1,dtype=float16,reduced=True")
    assert Case.parse(str(case)) == case
    assert case.problem(cpu).allow_fp16_accumulation
    assert not replace(case, dtype="float32").problem(cpu).allow_fp16_accumulation


def test_no_prediction_beats_the_card():
    peaks = PEAKS[RTX_4090.name]
    for row in TABLE.measurements:
        precision = FP16_ACCUMULATION if "fp16_accumulation" in row.kernel else IEEE
        dtype, precision = (
            (torch.float32, TF32) if row.dtype == TF32 else (getattr(torch, row.dtype), precision)
        )
        floor = peaks.floor(row.shape, dtype, precision)
        assert row.microseconds >= floor, row


def test_the_predictions_are_those_of_the_table():
    result = json.loads((BENCHMARKS / "results" / "rtx4090_predicted.json").read_text())
    rows = {(row.shape, row.kernel, row.config): row.microseconds for row in TABLE.measurements}
    for each in result["predictions"]:
        key = (each["m"], each["n"], each["k"]), each["kernel"], each["config"]
        assert rows[key] == each["microseconds"]


def test_every_shape_of_the_benchmark_has_a_prediction():
    result = json.loads((BENCHMARKS / "results" / "rtx4090_predicted.json").read_text())
    predicted = {(each["m"], each["n"], each["k"]) for each in result["predictions"]}
    assert predicted >= {*GRID, *SMALL_M}
    assert any(each["sums"] == "float32 by FMA" for each in result["predictions"])


def test_a_time_carried_over_to_the_same_card_is_the_same(predict):
    card = predict.Processor.with_rates(predict.H200, 1.98e9, {"float32": 644e12})
    work = predict.Work((4096, 4096, 4096), "float32", (128, 256, 32), {(9, 0): 1})
    assert predict.carry_over(work, 300.0, card, card) == pytest.approx(300.0)
    assert predict.carry_over(work, 1.0, card, card) == pytest.approx(
        predict.LAUNCH + work.floor(card)
    )


def test_fewer_resident_blocks_hide_less(predict):
    flops = {"float32": 165.2e12}
    source = predict.Processor.with_rates(predict.H200, 1.98e9, {"float32": 644e12})
    target = predict.Processor.with_rates(RTX_4090, 2.52e9, flops)
    times = [
        predict.carry_over(
            predict.Work((4096, 4096, 4096), "float32", (128, 128, 64), {(9, 0): 2, (8, 9): held}),
            *(300.0, source, target),
        )
        for held in (2, 1)
    ]
    floor = predict.Work((4096, 4096, 4096), "float32", (128, 128, 64), {}).floor(target)
    assert floor < times[0] < times[1]


def test_tritons_tuned_choices_serve_where_nothing_was_compiled_and_there_alone():
    rows = [row for row in TABLE.measurements if row.kernel.startswith("triton.")]
    assert {row.kernel for row in rows} == {"triton.tiled"}
    assert len({(row.shape, row.dtype) for row in rows}) == 12
    only_triton = [each for each in backends.kernels() if each.backend == "triton"]
    compiled = any(each.name == "cuda.sm80_multistage" for each in backends.kernels())
    for row in rows:
        dtype = getattr(torch, row.dtype)
        problem = Problem.contiguous(*row.shape, dtype, bias_dtype=dtype, card=RTX_4090)
        choice = select(problem, Request(), only_triton, {}, TABLE)
        assert (choice.kernel.name, str(choice.config)) == (row.kernel, row.config)
        if compiled:
            chosen = select(problem, Request(), backends.kernels(), {}, TABLE)
            assert chosen.kernel.name == "cuda.sm80_multistage", row
