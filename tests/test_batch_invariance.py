"""A row's bits with batch invariance: the same whatever the other rows and however many."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import pad

import fusedops
from fusedops import backends, native, plans
from fusedops.plans import choose, describe
from fusedops.registry import H200, RTX_4090, Request, select
from fusedops.tables import table_for
from fusedops.verify import Case, check_kernel

KS = (1, 3, 8, 64, 72, 120, 128, 256, 777, 1000, 1024, 2048, 4096, 4104, 8192, 16384)
MS = (1, 2, 3, 5, 16, 17, 33, 64, 100, 128, 257, 1024, 4096)
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
on_cpu = pytest.mark.skipif(
    native.why_no_cpu() is not None, reason="the C++ CPU backend was not built: nothing to check"
)
on_cuda = pytest.mark.gpu
LAYOUTS = {
    "dense": lambda x: x,
    "transposed": lambda x: x.t().contiguous().t(),
    "rows apart": lambda x: pad(x, (1, 2))[:, 1:-2],
    "every other element": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "every other row": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "one row for all": lambda x: x[:1].expand_as(x),
    "not aligned": lambda x: pad(x.flatten(), (1, 0))[1:].view(x.shape),
    "three dimensions": lambda x: pad(x, (0, 3)).unflatten(0, (2, -1))[..., :-3].transpose(0, 1),
}


def rows_change(
    device: str, dtype: torch.dtype, n: int, k: int, ms: tuple[int, ...], layout: str = "dense"
) -> list[int]:
    """The numbers of rows whose first or last row is not that of the largest, bit for bit."""
    generator = torch.Generator(device).manual_seed(k)
    x = LAYOUTS[layout](torch.randn(ms[-1], k, generator=generator, device=device).to(dtype))
    weight = (torch.randn(n, k, generator=generator, device=device) / k**0.5).to(dtype)
    bias = torch.randn(n, generator=generator, device=device).to(dtype)
    whole = fusedops.gemm_sig_res(x, weight, bias, 2.0)
    return [
        m
        for m in ms
        if not torch.equal(fusedops.gemm_sig_res(x[:m], weight, bias, 2.0), whole[:m])
        or not torch.equal(fusedops.gemm_sig_res(x[-m:], weight, bias, 2.0), whole[-m:])
    ]


@pytest.mark.parametrize("card", [H200, RTX_4090], ids=["sm_90", "sm_89"])
@pytest.mark.parametrize("arithmetic", ["float16", "bfloat16", "float32", "tf32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_m_sums_in_one_order_whatever_the_layout(layout, arithmetic, card):
    tf32 = arithmetic == "tf32"
    dtype = torch.float32 if tf32 else getattr(torch, arithmetic)
    for n, k in ((1024, 1024), (1000, 1027)):
        x = LAYOUTS[layout](torch.empty(130, k, dtype=dtype))
        weight = torch.empty(n, k, dtype=dtype)
        orders = set()
        for rows in (*(x[:m] for m in (1, 2, 31, 32, 33, 63, 64, 65)), x[1:2], x[3:], x):
            with fusedops.batch_invariant():
                problem = card.place(describe(rows, weight))
            if tf32:
                problem = replace(problem, fp32_precision="tf32")
            choice = select(problem, Request(), backends.kernels(), {}, table_for(problem))
            orders.add(choice.kernel.summation(problem, choice.config))
        assert len(orders) == 1, (n, k, orders)


@on_cpu
@pytest.mark.parametrize("dtype", (*DTYPES, torch.float64))
def test_on_a_cpu(dtype):
    with fusedops.batch_invariant():
        for k in (1, 7, 64, 128, 129, 256, 1000, 1024):
            for n in (3, 16, 50):
                assert rows_change("cpu", dtype, n, k, (1, 2, 4, 5, 17, 33, 64, 130)) == []


@on_cpu
@pytest.mark.parametrize("layout", LAYOUTS)
def test_on_a_cpu_in_any_layout(layout):
    with fusedops.batch_invariant():
        assert rows_change("cpu", torch.bfloat16, 50, 200, (1, 2, 5, 17, 64), layout) == []


@on_cpu
def test_a_subnormal_row_does_not_change_the_others():
    x = torch.randn(40, 64).bfloat16()
    weight = torch.randn(24, 64).bfloat16()
    with fusedops.batch_invariant():
        before = fusedops.gemm_sig_res(x, weight)
        x[7] *= 1e-39
        after = fusedops.gemm_sig_res(x, weight)
    changed = (before != after).any(dim=1)
    assert changed[7] and changed.sum() == 1


@on_cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1024, 1000, 136, 7])
def test_on_a_card(dtype, n):
    with fusedops.batch_invariant():
        for k in KS:
            assert rows_change("cuda", dtype, n, k, MS) == [], (n, k)


@on_cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_on_a_card_in_any_layout(dtype, layout):
    with fusedops.batch_invariant():
        for k in (1024, 1027):
            ms = (1, 2, 17, 33, 64, 128, 1024)
            assert rows_change("cuda", dtype, 1024, k, ms, layout) == [], k


def test_a_plan_is_for_one_alignment_of_x():
    """The same shapes: now x alone is off 16 bytes, now the weight alone."""
    x, weight = torch.randn(9, 33)[1:], torch.randn(5, 33)
    aligned_x, off_weight = x.clone(), torch.randn(6, 33)[1:]
    off_weight.copy_(weight)
    with fusedops.batch_invariant():
        before = len(plans._plans)
        first = fusedops.gemm_sig_res(aligned_x, off_weight)
        second = fusedops.gemm_sig_res(x, weight)
    assert len(plans._plans) == before + 2
    assert torch.equal(first, second)


@on_cuda
@pytest.mark.parametrize("dtype", DTYPES)
def test_configurations_that_share_a_summation_share_every_bit(dtype):
    for m, n, k in ((300, 520, 1024), (64, 256, 4096), (33, 136, 72), (4096, 512, 2048)):
        x = torch.randn(m, k, device="cuda").to(dtype)
        weight = torch.randn(n, k, device="cuda").to(dtype)
        bias = torch.randn(n, device="cuda").to(dtype)
        problem = describe(x, weight, bias)
        first: dict[str, tuple[str, torch.Tensor]] = {}
        for kernel in backends.kernels():
            if kernel.backend in backends.missing() or kernel.why_not(problem):
                continue
            for config in kernel.configs(problem):
                summation = kernel.summation(problem, config)
                if summation is None:
                    continue
                out = x.new_full((m, n), float("nan"))
                kernel.prepare(problem, config)(x, weight, bias, 2.0, out)
                name, bits = first.setdefault(summation, (f"{kernel.name} {config}", out))
                assert torch.equal(bits, out), (problem, summation, name, kernel.name, config)
        assert first


def test_the_environment_and_the_context_ask_for_it(monkeypatch):
    x, weight = torch.randn(4, 8), torch.randn(3, 8)

    def asked() -> bool:
        return describe(x, weight).batch_invariant

    assert not asked()
    with fusedops.batch_invariant():
        assert asked()
        with fusedops.batch_invariant(False):
            assert not asked()
    monkeypatch.setenv("FUSEDOPS_BATCH_INVARIANT", "1")
    assert asked()
    with fusedops.batch_invariant(False):
        assert not asked()
    monkeypatch.setenv("FUSEDOPS_BATCH_INVARIANT", "yes")
    with pytest.raises(ValueError, match="FUSEDOPS_BATCH_INVARIANT is 'yes'; it must be 0 or 1"):
        asked()


def test_a_backend_that_cannot_promise_it_refuses(monkeypatch):
    x, weight = torch.randn(4, 8), torch.randn(3, 8)
    fusedops.gemm_sig_res(x, weight, backend="reference")
    monkeypatch.setenv("FUSEDOPS_BATCH_INVARIANT", "1")
    with pytest.raises(fusedops.NoKernelError, match="may depend on M"):
        fusedops.gemm_sig_res(x, weight, backend="reference")


@on_cpu
def test_the_choice_says_so():
    problem = describe(torch.randn(4, 8), torch.randn(3, 8))
    assert "batch-invariant" not in str(problem)
    with fusedops.batch_invariant():
        problem = describe(torch.randn(4, 8), torch.randn(3, 8))
    assert "batch-invariant" in str(problem)
    assert choose(problem, Request()).kernel.name == "cpu.blocked"


def test_kernels_are_verified_whatever_the_environment_asks_for(monkeypatch):
    monkeypatch.setenv("FUSEDOPS_BATCH_INVARIANT", "1")
    case = Case.parse("m=2,n=3,k=4,dtype=float32,x=transposed")
    assert check_kernel(backends.REFERENCE, case, torch.device("cpu")) <= 1
