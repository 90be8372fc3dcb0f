"""z as a second result, and a scale that is read from memory: every kernel that offers them.

Run as a script, under Triton's interpreter, it puts Triton's kernels through the same on the CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from fusedops import backends
from fusedops.numerics import error_over_bound
from fusedops.plans import describe
from fusedops.registry import Kernel

HALF, BF16, FP32, FP64 = torch.float16, torch.bfloat16, torch.float32, torch.float64
SHAPES = ((1, 16, 8), (37, 72, 136), (300, 264, 520), (129, 77, 51))
SCALE = 1.25


def offering() -> list[Kernel]:
    return [kernel for kernel in backends.kernels() if kernel.writes_z and kernel.reads_scale]


def normal(*shape: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    return torch.randn(shape, dtype=FP32).to(device=device, dtype=dtype)


def put_through(kernel: Kernel, dtype: torch.dtype, device: str, most_configs: int) -> int:
    """Raise where a result breaks its bound; return how many configurations were tried."""
    tried = 0
    for number, (m, n, k) in enumerate(SHAPES):
        x, weight = (normal(rows, k, dtype=dtype, device=device) / k**0.25 for rows in (m, n))
        bias = normal(n, dtype=dtype, device=device) if number % 2 else None
        scale = torch.tensor(SCALE, dtype=dtype if number % 2 else FP32, device=device)
        problem = replace(describe(x, weight, bias), writes_z=True)
        in_memory = replace(problem, scale_dtype=scale.dtype)
        if kernel.backend in backends.missing() or kernel.reasons(in_memory):
            continue
        for config in kernel.configs(problem)[:most_configs]:
            y, z, again, z_again, alone = x.new_full((5, m, n), torch.nan)
            kernel.prepare(problem, config)(x, weight, bias, SCALE, y, z)
            kernel.prepare(in_memory, config)(x, weight, bias, scale, again, z_again)
            plain = replace(in_memory, writes_z=False)
            kernel.prepare(plain, config)(x, weight, bias, scale, alone)
            assert torch.equal(y, again) and torch.equal(z, z_again)
            # Beside a second store, Triton contracts float64's epilogue otherwise.
            assert dtype == FP64 or torch.equal(y, alone)
            accumulation = kernel.accumulation(problem)
            for result, factor in ((y, SCALE), (alone, SCALE), (z, 0.0)):
                over = error_over_bound(result, x, weight, bias, factor, accumulation)
                assert over.max() <= 1, (kernel.name, str(config), (m, n, k), factor)
            tried += 1
    return tried


@pytest.mark.parametrize("dtype", [HALF, BF16, FP32, FP64], ids=str)
def test_on_a_cpu(dtype):
    torch.manual_seed(1)
    tried = {kernel.name: put_through(kernel, dtype, "cpu", 99) for kernel in offering()}
    assert tried["cpu.blocked"] == tried["torch.reference"] == len(SHAPES)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [HALF, BF16, FP32, FP64], ids=str)
def test_on_a_card(dtype):
    torch.manual_seed(1)
    tried = {kernel.name: put_through(kernel, dtype, "cuda", 3) for kernel in offering()}
    assert tried["triton.tiled"] >= len(SHAPES)
    assert tried["cuda.sm80_multistage"] + tried["cuda.simt"] > 0 or dtype == FP64


def test_triton_interpreted():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["triton.tiled", "8", "triton.persistent_tma", "3"], done.stdout


if __name__ == "__main__":
    torch.manual_seed(1)
    SHAPES = ((1, 16, 8), (37, 72, 136), (70, 64, 256), (33, 37, 19))
    for each in offering():
        if each.backend == "triton":
            print(each.name, sum(put_through(each, dtype, "cpu", 1) for dtype in (HALF, FP32)))
