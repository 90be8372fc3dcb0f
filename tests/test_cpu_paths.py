"""Every instruction set this processor has, through either GEMM, held to the same properties."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fusedops import native
from fusedops.cpu_backend import KERNELS
from fusedops.registry import Launch, Problem
from fusedops.verify.runner import Plan, verify_kernel

built = native.why_no_cpu() is None
ISAS = list(torch.ops.fusedops_cpu.isas()) if built else []
(BLOCKED,) = KERNELS


@pytest.mark.skipif(not built, reason="the C++ CPU backend was not built: nothing to check")
@pytest.mark.parametrize("gemm", ["auto", "torch", "batch_invariant"])
@pytest.mark.parametrize("isa", ISAS)
def test_every_path(isa, gemm):
    if gemm == "batch_invariant" and isa == "scalar":
        pytest.skip("no packed GEMM is written for a processor without vectors")

    def prepare(problem: Problem, config: None) -> Launch:
        sizes = (problem.m, problem.n, problem.k, *problem.x_strides)
        run = torch.ops.fusedops_cpu.launch_as

        def launch(x, weight, bias, scale, out):
            run(isa, gemm, x, weight, bias, scale, out, *sizes)

        return launch

    tally = verify_kernel(
        replace(BLOCKED, name=f"cpu.blocked[{isa}, {gemm}]", prepare=prepare),
        Plan(torch.device("cpu"), examples=60, seed=1),
    )
    assert tally.complaint is None, tally.complaint
