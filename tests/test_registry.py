"""Selection on problems of machines that are not here."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from fusedops import backends
from fusedops.numerics import FP32_ROUNDOFF
from fusedops.registry import (
    H200,
    RTX_4090,
    Accumulation,
    Card,
    Kernel,
    Measurement,
    NoKernelError,
    Problem,
    Request,
    Table,
    explain,
    select,
)
from fusedops.registry.table import shipped_tables, tables_in
from fusedops.tables import table_for


def fake_kernel(name: str, *reasons: str, backend: str | None = None) -> Kernel:
    return Kernel(
        name=name,
        backend=backend or name.partition(".")[0],
        accumulation=lambda problem: Accumulation(FP32_ROUNDOFF),
        why_not=lambda problem: reasons,
        configs=lambda problem: ("first", "second"),
        prepare=lambda problem, config: pytest.fail("selection must not prepare"),
    )


PROBLEM = Problem.contiguous(64, 128, 32, torch.float16, card=H200)
REFERENCE = fake_kernel("torch.reference", backend="reference")
KERNELS = (
    fake_kernel("triton.tiled"),
    fake_kernel("cuda.sm90_cooperative", "k is odd", "x is transposed"),
    REFERENCE,
)


def test_auto_steps_down_and_keeps_every_reason():
    assert select(PROBLEM, Request(), KERNELS, {}).kernel.name == "triton.tiled"
    answer = explain(PROBLEM, Request(), KERNELS, {"reference": "not today"})
    assert (answer.backend, answer.kernel, answer.config) == ("triton", "triton.tiled", "first")
    reasons = {each.kernel: each.reasons for each in answer.candidates}
    assert reasons == {
        "triton.tiled": (),
        "cuda.sm90_cooperative": ("k is odd", "x is transposed"),
        "torch.reference": ("not today",),
    }
    for part in ("> triton.tiled", "k is odd", "not today", "because"):
        assert part in str(answer)


def test_a_forced_backend_is_obeyed():
    choice = select(PROBLEM, Request(backend="reference", origin="a test"), KERNELS, {})
    assert choice.kernel is REFERENCE
    assert "a test" in choice.why


def test_a_forced_kernel_is_obeyed():
    choice = select(PROBLEM, Request(kernel="triton.tiled"), KERNELS, {})
    assert choice.kernel.name == "triton.tiled"


def test_a_forced_backend_that_cannot_run_is_refused_with_everything():
    with pytest.raises(NoKernelError) as refused:
        select(PROBLEM, Request(backend="cuda", origin="FUSEDOPS_BACKEND"), KERNELS, {})
    text = str(refused.value)
    for part in (
        *("FUSEDOPS_BACKEND", "x (64, 32)", "float16", "sm_90", "cuda.sm90_cooperative"),
        *("k is odd", "x is transposed", "Remedy"),
    ):
        assert part in text


def test_what_the_machine_lacks_is_a_reason():
    missing = {"triton": "Triton is not installed"}
    choice = select(PROBLEM, Request(), KERNELS, missing)
    assert choice.kernel is REFERENCE
    with pytest.raises(NoKernelError, match="Triton is not installed"):
        select(PROBLEM, Request(backend="triton"), KERNELS, missing)
    with pytest.raises(NoKernelError, match="no compiler"):
        select(PROBLEM, Request(backend="cpu"), KERNELS, {"cpu": "no compiler"})


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (Request(backend="cudda"), "auto, cuda, triton, cpu, reference"),
        (Request(kernel="cuda.nothing"), "triton.tiled, cuda.sm90_cooperative, torch.reference"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(request_, named):
    with pytest.raises(ValueError, match=named):
        select(PROBLEM, request_, KERNELS, {})


KERNEL_NAMES = [kernel.name for kernel in KERNELS]


def measurement(m: int, kernel: str, config: str = "second") -> Measurement:
    return Measurement(m, 128, 32, "float16", kernel, config, 1.5)


def test_the_nearest_measurement_in_log_space_chooses():
    rows = (measurement(128, "torch.reference"), measurement(32768, "triton.tiled"))
    table = Table(H200.name, (9, 0), rows)
    assert [row.m for row in table.nearest(replace(PROBLEM, m=1600), KERNEL_NAMES)] == [128, 32768]
    assert [row.m for row in table.nearest(replace(PROBLEM, m=2400), KERNEL_NAMES)] == [32768, 128]
    for m in (16, 128, 800):
        assert [row.m for row in table.nearest(replace(PROBLEM, m=m), KERNEL_NAMES)] == [128]
    assert table.nearest(replace(PROBLEM, dtype=torch.float64), KERNEL_NAMES) == []
    choice = select(PROBLEM, Request(), KERNELS, {}, replace(table, measurements=rows[:1]))
    assert choice.kernel is REFERENCE
    assert choice.config == "second"
    assert "(128, 128, 32)" in choice.why


def test_a_shape_where_none_that_can_run_was_measured_is_served_by_its_neighbours():
    rows = (measurement(64, "cuda.sm90_cooperative"), measurement(128, "triton.tiled"))
    table = Table(H200.name, (9, 0), rows)
    triton = [kernel for kernel in KERNELS if kernel.backend == "triton"]
    (found,) = table.predict(replace(PROBLEM, m=64), triton)
    assert found.source == rows[1]


def test_few_rows_and_many_do_not_speak_for_each_other():
    rows = (measurement(64, "torch.reference"), measurement(128, "triton.tiled"))
    table = Table(H200.name, (9, 0), rows)
    for m, nearest in ((1, 64), (63, 64), (65, 128), (128, 128)):
        assert [row.m for row in table.nearest(replace(PROBLEM, m=m), KERNEL_NAMES)] == [nearest]


def test_a_measured_kernel_that_cannot_run_gives_way():
    table = Table(H200.name, (9, 0), (measurement(64, "cuda.sm90_cooperative"),))
    assert select(PROBLEM, Request(), KERNELS, {}, table).kernel.name == "triton.tiled"


@pytest.mark.parametrize("text", ["{", '{"device": "a card"}', "[1]", '{"schema": 2}', "[" * 9999])
def test_a_corrupt_table_is_a_warning_that_names_the_file(text, tmp_path):
    (tmp_path / "broken.json").write_text(text)
    table = Table("a card", (9, 0), (measurement(64, "torch.reference"),))
    (tmp_path / "good.json").write_text(json.dumps(table.document()))
    with pytest.warns(UserWarning, match=r"without a table: .*broken\.json"):
        assert tables_in(tmp_path) == {"a card": table}


def test_a_cpu_has_no_table(monkeypatch):
    monkeypatch.setattr("fusedops.tables.everything", lambda where: pytest.fail("read"))
    assert table_for(Problem.contiguous(8, 8, 8, torch.float32)) is None


def test_a_card_has_its_table_or_that_of_its_capability():
    assert table_for(PROBLEM).device == H200.name
    sibling = table_for(replace(PROBLEM, device_name="NVIDIA H100"))
    assert sibling.device == H200.name
    assert table_for(replace(PROBLEM, device_name="another", capability=(12, 0))) is None


def needs_float16_sums(row: Measurement) -> bool:
    return "fp16_accumulation" in row.kernel


def measured(row: Measurement, card: Card) -> Problem:
    """The problem that a table's row is of."""
    tf32 = row.dtype == "tf32"
    return replace(
        Problem.contiguous(
            row.m, row.n, row.k, torch.float32 if tf32 else getattr(torch, row.dtype), card=card
        ),
        fp32_precision="tf32" if tf32 else "ieee",
        allow_fp16_accumulation=needs_float16_sums(row),
    )


def test_auto_obeys_the_shipped_table_once_everything_is_compiled():
    kernels = [replace(each, ready=lambda *_: True) for each in backends.kernels()]
    times: dict[Problem, dict[tuple[str, str], float]] = {}
    for row in shipped_tables()[H200.name].measurements:
        if row.kernel in built() and not needs_float16_sums(row):
            of_shape = times.setdefault(measured(row, H200), {})
            of_shape[row.kernel, row.config] = row.microseconds
    assert times
    for problem, known in times.items():
        choice = select(problem, Request(), kernels, {}, table_for(problem))
        assert known[choice.kernel.name, str(choice.config)] == min(known.values()), problem
        assert "it was the fastest" in choice.why


def test_shipped_tables_name_kernels_and_configurations_that_exist():
    declared = {kernel.name: kernel for kernel in backends.kernels()}
    for table in shipped_tables().values():
        card = {H200.name: H200, RTX_4090.name: RTX_4090}[table.device]
        for row in table.measurements:
            if row.kernel not in declared:
                continue  # a compiled kernel that this build does not have
            configs = map(str, declared[row.kernel].configs(measured(row, card)))
            assert row.config in configs, row


def choose(problem: Problem) -> str:
    return select(problem, Request(), backends.kernels(), {}).kernel.name


def built() -> set[str]:
    return {kernel.name for kernel in backends.kernels()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sensible_choices_on_an_h200(dtype):
    name = choose(Problem.contiguous(1024, 8192, 8192, dtype, card=H200))
    hopper = {"cuda.sm90_cooperative", "cuda.sm90_pingpong"} & built()
    any_card = {"cuda.sm80_multistage"} & built()  # ready, where Triton's have yet to be compiled
    assert name in (hopper or any_card or {"triton.pingpong", "triton.persistent_tma"})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sensible_choices_on_a_4090(dtype):
    name = choose(Problem.contiguous(1024, 8192, 8192, dtype, card=RTX_4090))
    assert name in ({"cuda.sm80_multistage"} & built() or {"triton.tiled"})


@pytest.mark.parametrize("card", [H200, RTX_4090])
def test_a_transposed_operand_still_runs_fused(card):
    problem = Problem.contiguous(512, 512, 512, torch.bfloat16, card=card)
    assert choose(replace(problem, x_strides=(1, 512))) == "triton.tiled"


def test_a_cpu_never_gets_a_gpu_kernel():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert choose(Problem.contiguous(64, 64, 64, dtype)) == "cpu.blocked"


def test_every_kernel_declares_itself_consistently():
    kernels = backends.kernels()
    assert len({kernel.name for kernel in kernels}) == len(kernels)
    for card in (None, RTX_4090, H200):
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            for m, n, k in ((1, 1, 1), (17, 33, 65), (1024, 1024, 1024)):
                problem = Problem.contiguous(m, n, k, dtype, card=card)
                for kernel in kernels:
                    reasons = kernel.why_not(problem)
                    assert all(isinstance(reason, str) and reason for reason in reasons)
                    if not reasons:
                        assert kernel.configs(problem)
                        assert kernel.accumulation(problem).unit_roundoff > 0


def test_a_measurement_is_carried_over_by_the_kernels_estimate():
    waves = {"coarse": 4096, "fine": 64}
    kernel = replace(
        fake_kernel("cuda.tiles"),
        configs=lambda problem: tuple(waves),
        estimate=lambda problem, config: -(-problem.m // waves[config]) * waves[config],
    )
    rows = tuple(
        Measurement(m, 128, 32, "float16", "cuda.tiles", config, time)
        for m, config, time in ((4096, "coarse", 10.0), (4096, "fine", 10.9), (64, "fine", 1.0))
    )
    table = Table(H200.name, (9, 0), rows)
    exact = table.predict(replace(PROBLEM, m=4096), [kernel])
    assert [(each.config, each.microseconds) for each in exact] == [("coarse", 10), ("fine", 10.9)]
    between = table.predict(replace(PROBLEM, m=4097), [kernel])
    assert [each.config for each in between] == ["fine", "coarse"]
    assert between[1].microseconds == 20
    choice = select(replace(PROBLEM, m=4097), Request(), [kernel], {}, table)
    assert (choice.config, "(4096, 128, 32)" in choice.why) == ("fine", True)

    behind = [replace(row, microseconds=11.1) if row.config == "fine" else row for row in rows]
    table = replace(table, measurements=tuple(behind))
    between = table.predict(replace(PROBLEM, m=4097), [kernel])
    assert [each.config for each in between] == ["coarse", "fine"]


def just_in_time(name: str, *, ready: bool, **changes) -> Kernel:
    jit = {"compiled_on_demand": True, "ready": lambda problem, config: ready}
    return replace(fake_kernel(name), **jit, **changes)


def test_auto_takes_what_is_ready_before_what_must_be_compiled():
    cuda = fake_kernel("cuda.sm80_multistage")
    table = Table(H200.name, (9, 0), (measurement(64, "triton.tiled"),))
    for ready, chosen in ((True, "triton.tiled"), (False, "cuda.sm80_multistage")):
        kernels = (just_in_time("triton.tiled", ready=ready), cuda, REFERENCE)
        choice = select(PROBLEM, Request(), kernels, {}, table)
        assert choice.kernel.name == chosen
        assert ("fusedops.prepare" in choice.why) != ready
    forced = select(PROBLEM, Request(backend="triton"), kernels, {}, table)
    assert forced.kernel.name == "triton.tiled"


def test_auto_compiles_rather_than_run_the_reference_unless_it_must_not():
    kernels = (just_in_time("triton.tiled", ready=False), REFERENCE)
    assert select(PROBLEM, Request(), kernels, {}).kernel.name == "triton.tiled"
    assert select(PROBLEM, Request(), kernels, {}, may_compile=False).kernel is REFERENCE


def test_batch_invariance_fixes_the_order_of_summation_for_every_m():
    orders = {"first": "one chain", "second": "two chains"}
    by_config = {"summation": lambda problem, config: orders[config]}
    kernels = (replace(fake_kernel("cuda.sm90_cooperative"), **by_config), REFERENCE)
    rows = (
        measurement(1, "cuda.sm90_cooperative", "first"),
        measurement(4096, "cuda.sm90_cooperative", "second"),
    )
    table = Table(H200.name, (9, 0), rows)
    for m in (1, 30, 4096):
        problem = replace(PROBLEM, m=m)
        assert select(problem, Request(), kernels, {}, table).config == (
            "second" if m == 4096 else "first"
        )
        invariant = replace(problem, batch_invariant=True)
        assert select(invariant, Request(), kernels, {}, table).config == "second"
    with pytest.raises(NoKernelError, match="may depend on M"):
        select(invariant, Request(backend="reference"), kernels, {}, table)


def test_batch_invariance_does_not_depend_on_what_has_been_compiled():
    triton = just_in_time("triton.tiled", ready=True, summation=lambda problem, config: "dots")
    cuda = replace(
        fake_kernel("cuda.sm80_multistage"), summation=lambda problem, config: "products"
    )
    table = Table(H200.name, (9, 0), (measurement(64, "triton.tiled"),))
    invariant = replace(PROBLEM, batch_invariant=True)
    assert select(invariant, Request(), (triton, cuda), {}, table).kernel is cuda
    assert select(invariant, Request(), (triton,), {}, table).kernel is triton
