# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Few rows of x: one program per strip of the weight, which its warps divide along K.

The weight is read once and bounds the time, so what counts is how much of it is in flight. Every
warp multiplies its own part of K, a batch of products; a chain of dependent products is then as
many times shorter as there are warps. The parts meet once, in registers and shared memory, before
the epilogue.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from fusedops.registry import Launch, Problem

from .config import SkinnyConfig, divisor, uses_tf32
from .epilogues import sigmoid_residual
from .launch import Specialization, pointer
from .packet import Arguments, launch_packed


@triton.jit
def skinny(
    x,
    weight,
    bias,
    out,
    scale,
    M,
    N,
    K,
    stride_xm,
    stride_wn,
    EPILOGUE: tl.constexpr,
    PRECISION: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
):
    rows = tl.arange(0, BLOCK_M)
    columns = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    depth = tl.arange(0, PARTS)[:, None] * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
    x_tile = x + rows.to(tl.int64)[None, :, None] * stride_xm + depth[:, None, :]
    weight_tile = weight + columns[None, None, :] * stride_wn + depth[:, :, None]
    x_mask = (rows < M)[None, :, None]
    weight_mask = (columns < N)[None, None, :]
    z = tl.zeros((PARTS, BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, K, PARTS * BLOCK_K):
        if EVEN_K:
            a = tl.load(x_tile, mask=x_mask, other=0.0)
            b = tl.load(weight_tile, mask=weight_mask, other=0.0)
        else:
            left = depth < K - k
            a = tl.load(x_tile, mask=x_mask & left[:, None, :], other=0.0)
            b = tl.load(weight_tile, mask=weight_mask & left[:, :, None], other=0.0)
        z = tl.dot(a, b, z, input_precision=PRECISION)
        x_tile += PARTS * BLOCK_K
        weight_tile += PARTS * BLOCK_K

    z = tl.sum(z, axis=0)
    if bias is not None:
        z += tl.load(bias + columns, mask=columns < N, other=0.0).to(tl.float32)[None, :]
    y = EPILOGUE(z, tl.full((), scale, tl.float32))
    y_tile = out + rows.to(tl.int64)[:, None] * N + columns[None, :]
    inside = (rows < M)[:, None] & (columns < N)[None, :]
    tl.store(y_tile, y.to(out.dtype.element_ty), mask=inside)


def specialization(problem: Problem, config: SkinnyConfig) -> Specialization:
    """What the code for this problem depends on: not M."""
    vector = 16 // problem.dtype.itemsize
    integers = {
        "N": problem.n,
        "K": problem.k,
        "stride_xm": problem.x_strides[0],
        "stride_wn": problem.weight_strides[0],
    }
    absent = {} if problem.bias_dtype else {"bias": None}
    return Specialization(
        function=skinny,
        types={
            "x": pointer(problem.dtype),
            "weight": pointer(problem.dtype),
            "bias": pointer(problem.bias_dtype),
            "out": pointer(problem.dtype),
            "scale": "fp64",
            "M": "i32",
            "N": "i64",
            "K": "i32",
            "stride_xm": "i64",
            "stride_wn": "i64",
        },
        constants={
            **absent,
            "EPILOGUE": sigmoid_residual,
            "PRECISION": "tf32" if uses_tf32(problem) else "ieee",
            "EVEN_K": problem.k % (config.num_warps * config.block_k) == 0,
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "BLOCK_K": config.block_k,
            "PARTS": config.num_warps,
        },
        divisors={
            **dict.fromkeys(("x", "weight", "bias"), problem.alignment),
            "out": 16,
            **{name: divisor(value, vector) for name, value in integers.items()},
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )


def launch(problem: Problem, config: SkinnyConfig) -> Launch:
    """The launch of this problem in this configuration."""
    special = specialization(problem, config)
    programs = -(-problem.n // config.block_n)
    sizes = {
        "M": problem.m,
        "N": problem.n,
        "K": problem.k,
        "stride_xm": problem.x_strides[0],
        "stride_wn": problem.weight_strides[0],
    }

    if problem.interpreted:

        def interpret(
            x: torch.Tensor,
            weight: torch.Tensor,
            bias: torch.Tensor | None,
            scale: float,
            out: torch.Tensor,
        ) -> None:
            skinny[(programs,)](x, weight, bias, out, scale, **sizes, **special.keywords)

        return interpret

    assert problem.capability is not None
    return launch_packed(Arguments(special, problem.capability, programs, sizes))
