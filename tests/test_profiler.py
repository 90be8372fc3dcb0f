"""Profiler ranges that name the kernel which ran, at no cost while no profiler runs."""

from __future__ import annotations

import pytest
import torch

import fusedops
from fusedops import plans

HOST = [torch.profiler.ProfilerActivity.CPU]


def ranges(call) -> list[str]:
    with torch.profiler.profile(activities=HOST) as profile:
        call()
    return [each.name for each in profile.events() if each.name.startswith("fusedops.")]


@pytest.mark.supports("profiler ranges that name the kernel that ran, forward and backward")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_ranges_name_the_kernels(device):
    x = torch.randn(4, 8, device=device, requires_grad=True)
    weight = torch.randn(3, 8, device=device)
    scale = torch.tensor(2.0, device=device)
    expected = "fusedops." + fusedops.explain(x, weight).kernel
    for call in (
        lambda: fusedops.gemm_sig_res(x.detach(), weight, None, 2.0),
        lambda: fusedops.gemm_sig_res(x, weight, None, 2.0),
        lambda: fusedops.gemm_sig_res(x.detach(), weight, out=torch.empty(4, 3, device=device)),
        torch.inference_mode()(lambda: torch.ops.fusedops.gemm_sig_res(x, weight, None, 2.0)),
    ):
        assert ranges(call) == [expected]
        call()
        assert ranges(call) == [expected], "after a call that was not watched"
    forced = "fusedops.torch.reference"
    assert ranges(lambda: fusedops.gemm_sig_res(x, weight, backend="reference")) == [forced]
    assert len(ranges(lambda: fusedops.gemm_sig_res(x, weight, None, scale))) == 1
    y = fusedops.gemm_sig_res(x, weight, None, 2.0)
    (name,) = ranges(lambda: y.sum().backward())
    assert "backward" in name


def test_a_plan_made_while_no_profiler_runs_has_no_range():
    x, weight = torch.randn(4, 8), torch.randn(3, 8)
    fusedops.gemm_sig_res(x, weight)
    launch = plans.kept(plans.plan_key(x, weight, None, None))[1]
    assert launch.__name__ != "ranged"
