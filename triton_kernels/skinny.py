# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Few rows of x: one program per strip of the weight, which its warps divide along K.

The weight is read once and bounds the time, so what counts is how much of it is in flight. Every
warp multiplies its own part of K, a batch of products; a chain of dependent products is then as
many times shorter as there are warps. The parts meet once, in registers and shared memory, before
the epilogue. Of mma's 16 x 8 results, the 16 lie along the weight's rows, so that eight rows of x
fill it; strips of 8 take them along x's.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from fusedops.registry import Launch, Problem

from .config import SkinnyConfig, divisor, overlaps, uses_tf32
from .epilogues import sigmoid_residual
from .launch import Specialization, pointer
from .overlap import send_for, wait_for_earlier_kernels
from .packet import Arguments, launch_packed

AHEAD = 512
"""Elements of each of its rows that a program sends for while earlier kernels run."""


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
    OVERLAP: tl.constexpr,
    AHEAD: tl.constexpr,
):
    rows = tl.arange(0, BLOCK_M)
    columns = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    if OVERLAP:
        send_for(weight + tl.minimum(columns, N - 1) * stride_wn, K, AHEAD)
        wait_for_earlier_kernels()

    # Not an arange reshaped: of that, Triton 3.6 no longer knows that neighbours are adjacent.
    part = tl.arange(0, PARTS).to(tl.int64) * BLOCK_K
    depth = part[:, None] + tl.arange(0, BLOCK_K)[None, :]
    x_rows = x + rows.to(tl.int64) * stride_xm
    weight_rows = weight + columns * stride_wn
    if BLOCK_N >= 16:
        z = products(weight_rows, columns < N, x_rows, rows < M, depth, K, PRECISION, EVEN_K)
        z = tl.sum(z, axis=0).T
    else:
        z = products(x_rows, rows < M, weight_rows, columns < N, depth, K, PRECISION, EVEN_K)
        z = tl.sum(z, axis=0)

    if bias is not None:
        z += tl.load(bias + columns, mask=columns < N, other=0.0).to(tl.float32)[None, :]
    y = EPILOGUE(z, tl.full((), scale, tl.float32))
    y_tile = out + rows.to(tl.int64)[:, None] * N + columns[None, :]
    inside = (rows < M)[:, None] & (columns < N)[None, :]
    tl.store(y_tile, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def products(
    left, left_exists, right, right_exists, depth, K, PRECISION: tl.constexpr, EVEN_K: tl.constexpr
):
    """Rows left times rows right, a matrix for each part of K."""
    PARTS: tl.constexpr = depth.shape[0]
    STEP: tl.constexpr = PARTS * depth.shape[1]
    left_tile = left[None, :, None] + depth[:, None, :]
    right_tile = right[None, None, :] + depth[:, :, None]
    left_mask = left_exists[None, :, None]
    right_mask = right_exists[None, None, :]
    z = tl.zeros((PARTS, left.shape[0], right.shape[0]), dtype=tl.float32)
    for k in range(0, K, STEP):
        if EVEN_K:
            a = tl.load(left_tile, mask=left_mask, other=0.0)
            b = tl.load(right_tile, mask=right_mask, other=0.0)
        else:
            inside = depth < K - k
            a = tl.load(left_tile, mask=left_mask & inside[:, None, :], other=0.0)
            b = tl.load(right_tile, mask=right_mask & inside[:, :, None], other=0.0)
        z = tl.dot(a, b, z, input_precision=PRECISION)
        left_tile += STEP
        right_tile += STEP
    return z


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
            "OVERLAP": overlaps(problem),
            "AHEAD": AHEAD,
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
    return launch_packed(
        Arguments(special, problem.capability, programs, sizes, overlap=overlaps(problem))
    )
