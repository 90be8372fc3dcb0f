# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""One program per multiprocessor, taking tile after tile; operands come through TMA."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from fusedops.registry import Launch, Problem

from .config import PersistentConfig, overlaps, stores_by_tma, uses_tf32, uses_three_tf32
from .epilogues import sigmoid_residual
from .launch import Specialization, element, pointer
from .order import grouped
from .overlap import wait_for_earlier_kernels
from .packet import Arguments, launch_packed
from .products import multiply_add
from .tma import matrices


@triton.jit
def persistent_tma(
    x,
    weight,
    bias,
    out,
    scale,
    M,
    N,
    K,
    EPILOGUE: tl.constexpr,
    PRECISION: tl.constexpr,
    STORE_TMA: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    PIECES: tl.constexpr,
    FLATTEN: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    if OVERLAP:
        wait_for_earlier_kernels()

    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    programs = tl.num_programs(0)
    # The loop is pipelined across tiles, so what the stores need is counted apart from the loads.
    stored = tl.program_id(0) - programs
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, programs, flatten=FLATTEN):
        tile_m, tile_n = grouped(tile, tiles_m, tiles_n, GROUP_M)
        z = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for k in range(0, K, BLOCK_K):
            a = x.load([tile_m * BLOCK_M, k])
            b = weight.load([tile_n * BLOCK_N, k])
            z = multiply_add(a, b.T, z, PRECISION)

        stored += programs
        stored_m, stored_n = grouped(stored, tiles_m, tiles_n, GROUP_M)
        row = stored_m * BLOCK_M
        column = stored_n * BLOCK_N
        store_pieces(z, bias, out, scale, row, column, M, N, EPILOGUE, STORE_TMA, PIECES)


@triton.jit
def store_pieces(
    z,
    bias,
    out,
    scale,
    row,
    column,
    M,
    N,
    EPILOGUE: tl.constexpr,
    STORE_TMA: tl.constexpr,
    PIECES: tl.constexpr,
):
    """Store a tile from left to right, so that a piece alone waits in shared memory."""
    if PIECES == 1:
        store(z, bias, out, scale, row, column, M, N, EPILOGUE, STORE_TMA)
    else:
        HALF: tl.constexpr = z.shape[1] // 2
        LESS: tl.constexpr = PIECES // 2
        left, right = z.reshape((z.shape[0], 2, HALF)).permute(0, 2, 1).split()
        store_pieces(left, bias, out, scale, row, column, M, N, EPILOGUE, STORE_TMA, LESS)
        middle = column + HALF
        store_pieces(right, bias, out, scale, row, middle, M, N, EPILOGUE, STORE_TMA, LESS)


@triton.jit
def store(
    z,
    bias,
    out,
    scale,
    row,
    column,
    M,
    N,
    EPILOGUE: tl.constexpr,
    STORE_TMA: tl.constexpr,
):
    """Apply the epilogue to a piece of the tile, and store it."""
    columns = column + tl.arange(0, z.shape[1])
    if bias is not None:
        z += tl.load(bias + columns, mask=columns < N, other=0.0).to(tl.float32)[None, :]
    y = EPILOGUE(z, tl.full((), scale, tl.float32))
    if STORE_TMA:
        out.store([row, column], y.to(out.dtype))
    else:
        rows = row + tl.arange(0, z.shape[0])
        places = rows.to(tl.int64)[:, None] * N + columns[None, :]
        inside = (rows < M)[:, None] & (columns < N)[None, :]
        tl.store(out + places, y.to(out.dtype.element_ty), mask=inside)


def specialization(problem: Problem, config: PersistentConfig) -> Specialization:
    """What the code for this problem depends on: no size, and no stride but how rows are stored."""
    half = config.block_n // config.pieces
    by_tma = stores_by_tma(problem)
    absent = {} if problem.bias_dtype else {"bias": None}
    return Specialization(
        function=persistent_tma,
        types={
            "x": _descriptor_type(problem.dtype, config.block_m, config.block_k),
            "weight": _descriptor_type(problem.dtype, config.block_n, config.block_k),
            "bias": pointer(problem.bias_dtype),
            "out": _descriptor_type(problem.dtype, config.block_m, half)
            if by_tma
            else pointer(problem.dtype),
            "scale": "fp64",
            "M": "i32",
            "N": "i32",
            "K": "i32",
        },
        constants={
            **absent,
            "EPILOGUE": sigmoid_residual,
            "PRECISION": _precision(problem),
            "STORE_TMA": by_tma,
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "BLOCK_K": config.block_k,
            "GROUP_M": config.group_m,
            "PIECES": config.pieces,
            "FLATTEN": config.flatten,
            "OVERLAP": overlaps(problem),
        },
        divisors={"bias": problem.alignment, **({} if by_tma else {"out": 16})},
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )


def launch(problem: Problem, config: PersistentConfig) -> Launch:
    """The launch of this problem in this configuration."""
    special = specialization(problem, config)
    tiles, multiprocessors = config.tiles(problem), max(problem.multiprocessors, 1)
    operands = matrices(problem)
    sizes = {"M": problem.m, "N": problem.n, "K": problem.k}

    if problem.interpreted:

        def interpret(
            x: torch.Tensor,
            weight: torch.Tensor,
            bias: torch.Tensor | None,
            scale: float,
            out: torch.Tensor,
        ) -> None:
            boxes = {
                "x": (x, config.block_m, config.block_k),
                "weight": (weight, config.block_n, config.block_k),
                "out": (out, config.block_m, config.block_n // config.pieces),
            }
            described = {
                name: TensorDescriptor(data, list(matrix.shape), [matrix.row_stride, 1], box)
                for name, matrix in operands.items()
                for data, *box in [boxes[name]]
            }
            given = {"out": out, **described, "bias": bias, "scale": scale, **sizes}
            persistent_tma[(min(tiles, multiprocessors),)](**given, **special.keywords)

        return interpret

    assert problem.capability is not None
    return launch_packed(
        Arguments(
            special,
            problem.capability,
            tiles,
            sizes,
            persistent_on=multiprocessors,
            matrices=operands,
            overlap=overlaps(problem),
        )
    )


def _precision(problem: Problem) -> str:
    if uses_three_tf32(problem):
        return "tf32x3 of parts" if problem.interpreted else "tf32x3"
    return "tf32" if uses_tf32(problem) else "ieee"


def _descriptor_type(dtype: torch.dtype, rows: int, columns: int) -> str:
    return f"tensordesc<{element(dtype)}[{rows}, {columns}]>"
