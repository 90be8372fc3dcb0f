# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""One program per tile of the result; operands are read through pointers, at any strides."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from fusedops.registry import Launch, Problem

from .config import TiledConfig, divisor, uses_tf32
from .epilogues import scalar, sigmoid_residual
from .launch import Specialization, absent_operands, pointer, scale_type
from .order import grouped
from .packet import Arguments, launch_packed


@triton.jit
def tiled(
    x,
    weight,
    bias,
    out,
    z_out,
    scale,
    M,
    N,
    K,
    stride_xm,
    stride_xk,
    stride_wn,
    stride_wk,
    EPILOGUE: tl.constexpr,
    SCALE_IN_MEMORY: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    PRECISION: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    tiles_m = tl.cdiv(M, BLOCK_M).to(tl.int32)
    tiles_n = tl.cdiv(N, BLOCK_N).to(tl.int32)
    tile_m, tile_n = grouped(tl.program_id(0), tiles_m, tiles_n, GROUP_M)
    rows = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tile_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    depth = tl.arange(0, BLOCK_K)
    step = tl.full((), BLOCK_K, tl.int64)

    x_tile = x + rows[:, None] * stride_xm + depth.to(tl.int64)[None, :] * stride_xk
    weight_tile = weight + depth.to(tl.int64)[:, None] * stride_wk + columns[None, :] * stride_wn
    x_mask = (rows < M)[:, None]
    weight_mask = (columns < N)[None, :]
    z = tl.zeros((BLOCK_M, BLOCK_N), dtype=ACCUMULATOR)
    for k in range(0, K, BLOCK_K):
        if EVEN_K:
            a = tl.load(x_tile, mask=x_mask, other=0.0)
            b = tl.load(weight_tile, mask=weight_mask, other=0.0)
        else:
            left = depth < K - k
            a = tl.load(x_tile, mask=x_mask & left[None, :], other=0.0)
            b = tl.load(weight_tile, mask=weight_mask & left[:, None], other=0.0)
        z = tl.dot(a, b, z, input_precision=PRECISION, out_dtype=ACCUMULATOR)
        x_tile += step * stride_xk
        weight_tile += step * stride_wk

    if bias is not None:
        z += tl.load(bias + columns, mask=columns < N, other=0.0).to(ACCUMULATOR)[None, :]
    places = rows[:, None] * N + columns[None, :]
    if z_out is not None:
        tl.store(z_out + places, z.to(z_out.dtype.element_ty), mask=x_mask & weight_mask)
    y = EPILOGUE(z, scalar(scale, ACCUMULATOR, SCALE_IN_MEMORY))
    tl.store(out + places, y.to(out.dtype.element_ty), mask=x_mask & weight_mask)


def specialization(problem: Problem, config: TiledConfig) -> Specialization:
    """What the code for this problem depends on: not M, or on whether it is whole vectors where M
    is the direction x is read in."""
    strides = _strides(problem)
    unit = {name: 1 for name, stride in strides.items() if stride == 1}
    vector = 16 // problem.dtype.itemsize
    integers = {"N": problem.n, "K": problem.k, **strides}
    if "stride_xm" in unit:
        # Both follow M: whole vectors or none, lest every other M compiles anew.
        for name, size in (("M", problem.m), ("stride_xk", strides["stride_xk"])):
            integers[name] = vector if size % vector == 0 else 1
    return Specialization(
        function=tiled,
        types={
            "x": pointer(problem.dtype),
            "weight": pointer(problem.dtype),
            "bias": pointer(problem.bias_dtype),
            "out": pointer(problem.dtype),
            "z_out": pointer(problem.dtype if problem.writes_z else None),
            "scale": scale_type(problem),
            "M": "i64",
            "N": "i64",
            "K": "i32",
            **dict.fromkeys(strides, "i64"),
        },
        constants={
            **absent_operands(problem),
            **unit,
            "EPILOGUE": sigmoid_residual,
            "SCALE_IN_MEMORY": problem.scale_dtype is not None,
            "ACCUMULATOR": tl.float64 if problem.dtype == torch.float64 else tl.float32,
            "PRECISION": "tf32" if uses_tf32(problem) else "ieee",
            "EVEN_K": problem.k % config.block_k == 0,
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "BLOCK_K": config.block_k,
            "GROUP_M": config.group_m,
        },
        divisors={
            **dict.fromkeys(("x", "weight", "bias"), problem.alignment),
            **dict.fromkeys(("out", "z_out"), 16),
            **{name: divisor(value, vector) for name, value in integers.items()},
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )


def launch(problem: Problem, config: TiledConfig) -> Launch:
    """The launch of this problem in this configuration."""
    special = specialization(problem, config)
    programs = config.tiles(problem)
    sizes = {"M": problem.m, "N": problem.n, "K": problem.k, **_strides(problem)}

    if problem.interpreted:

        def interpret(
            x: torch.Tensor,
            weight: torch.Tensor,
            bias: torch.Tensor | None,
            scale: float | torch.Tensor,
            out: torch.Tensor,
            z: torch.Tensor | None = None,
        ) -> None:
            tiled[(programs,)](x, weight, bias, out, z, scale, **sizes, **special.keywords)

        return interpret

    assert problem.capability is not None
    return launch_packed(Arguments(special, problem.capability, programs, sizes))


def _strides(problem: Problem) -> dict[str, int]:
    names = ("stride_xm", "stride_xk", "stride_wn", "stride_wk")
    return dict(zip(names, (*problem.x_strides, *problem.weight_strides), strict=True))
