"""What a process's first call costs, and that it compiles nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

MOST_MILLISECONDS = 100

SCRIPT = """
import json, sys, time
import torch, fusedops
from fusedops import native

m, n, k = {shape}
x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
weight = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
bias = torch.randn(n, device="cuda", dtype=torch.bfloat16)
assert native.load(native.CUDA_LIBRARY) is None
torch.cuda.synchronize()
start = time.perf_counter()
if {capturing}:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = fusedops.gemm_sig_res(x, weight, bias, 2.0)
    graph.replay()
else:
    y = fusedops.gemm_sig_res(x, weight, bias, 2.0)
torch.cuda.synchronize()
milliseconds = (time.perf_counter() - start) * 1e3
expected = fusedops.reference.gemm_sig_res(x, weight, bias, 2.0)
print(json.dumps({{
    "milliseconds": milliseconds,
    "triton": "triton" in sys.modules,
    "right": bool(torch.allclose(y, expected, rtol=1e-2, atol=1e-2)),
    "kernel": fusedops.explain(x, weight, bias).kernel,
}}))
"""


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1, 4096, 4096), (64, 64, 64), (1024, 1024, 1024)])
@pytest.mark.parametrize("capturing", [False, True], ids=["eager", "in a capture"])
def test_the_first_call(shape, capturing):
    code = SCRIPT.format(shape=shape, capturing=capturing)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["right"]
    assert seen["kernel"].startswith("cuda."), seen
    assert not seen["triton"], "a call with nothing to compile imported the compiler"
    if not capturing:  # a capture synchronises and makes its own memory pool
        assert seen["milliseconds"] <= MOST_MILLISECONDS
