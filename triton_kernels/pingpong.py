# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Two groups of warps take turns on the tensor cores; one multiplies while the other stores.

A producer warp brings the operands of one tile after another through a ring of buffers. The tiles
alternate between the two consumers, and so do the turns: a consumer multiplies when the other has
no more operands to wait for, and is about to apply the epilogue and store. This needs barriers
and roles that Triton's own language leaves to its compiler, so it is written in Gluon, on the same
stack; the interpreter does not run it.
"""

from __future__ import annotations

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from fusedops.registry import Launch, Problem

from .config import PingpongConfig
from .launch import Specialization, element, pointer
from .packet import Arguments, launch_packed
from .tma import matrices

REGISTERS = 168
"""Of each thread of three warpgroups; then each takes or gives, as below."""

CONSUMER_REGISTERS, PRODUCER_REGISTERS = 232, 40

# Triton renamed them between 3.6 and 3.9.
load_block = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
store_block = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global


@gluon.jit
def place(tile, tiles_m, tiles_n, GROUP_M: gl.constexpr):
    """A tile's (row, column), down columns of GROUP_M: tiles that run together share operands."""
    most = gl.minimum(tiles_m, GROUP_M)
    first_m = tile // (most * tiles_n) * most
    height = gl.minimum(tiles_m - first_m, most)
    within = tile - first_m * tiles_n
    return first_m + within % height, within // height


@gluon.jit
def sigmoid_residual(z, scale):
    return z + scale / (1.0 + gl.exp2(z * -1.4426950408889634))


@gluon.jit
def produce(ring, sizes, x, weight, GROUP_M: gl.constexpr):
    x_ring, weight_ring, full, empty, _ = ring
    tiles_m, tiles_n, _, K = sizes
    STAGES: gl.constexpr = x_ring.shape[0]
    BLOCK_M: gl.constexpr = x_ring.shape[1]
    BLOCK_N: gl.constexpr = weight_ring.shape[1]
    BLOCK_K: gl.constexpr = x_ring.shape[2]
    BYTES: gl.constexpr = (BLOCK_M + BLOCK_N) * BLOCK_K * x.dtype.primitive_bitwidth // 8
    step = 0
    for tile in range(gl.program_id(0), tiles_m * tiles_n, gl.num_programs(0)):
        tile_m, tile_n = place(tile, tiles_m, tiles_n, GROUP_M)
        for k in range(0, K, BLOCK_K):
            stage = step % STAGES
            arrived = full.index(stage)
            mbarrier.wait(empty.index(stage), ((step // STAGES) & 1) ^ 1)
            mbarrier.expect(arrived, BYTES)
            load_block(x, [tile_m * BLOCK_M, k], arrived, x_ring.index(stage))
            load_block(weight, [tile_n * BLOCK_N, k], arrived, weight_ring.index(stage))
            step += 1


@gluon.jit
def consume(
    ring,
    sizes,
    bias,
    out,
    result,
    scale,
    WHICH: gl.constexpr,
    GROUP_M: gl.constexpr,
    EPILOGUE: gl.constexpr,
):
    """Every other tile of the program, from the first (WHICH is 0) or the second on.

    The turn comes when the other consumer has seen the last of its operands arrive: a barrier tells
    only whether the number of its phase is even, so nobody may wait for a phase but the next.
    """
    x_ring, weight_ring, full, empty, turns = ring
    tiles_m, tiles_n, N, K = sizes
    STAGES: gl.constexpr = x_ring.shape[0]
    BLOCK_M: gl.constexpr = x_ring.shape[1]
    BLOCK_N: gl.constexpr = weight_ring.shape[1]
    BLOCK_K: gl.constexpr = x_ring.shape[2]
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK_N, 16]
    )
    blocks = (K + BLOCK_K - 1) // BLOCK_K
    step = WHICH * blocks
    first = gl.program_id(0) + WHICH * gl.num_programs(0)
    parity = 1 - WHICH
    for tile in range(first, tiles_m * tiles_n, 2 * gl.num_programs(0)):
        z = gl.zeros((BLOCK_M, BLOCK_N), gl.float32, LAYOUT)
        mbarrier.wait(turns.index(WHICH), parity)
        parity ^= 1
        for k in range(blocks):
            stage = step % STAGES
            mbarrier.wait(full.index(stage), (step // STAGES) & 1)
            weight_block = weight_ring.index(stage).permute((1, 0))
            started = warpgroup_mma(x_ring.index(stage), weight_block, z, is_async=True)
            z = warpgroup_mma_wait(num_outstanding=1, deps=(started,))
            mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), pred=k > 0)
            step += 1
        mbarrier.arrive(turns.index(1 - WHICH))
        z = warpgroup_mma_wait(num_outstanding=0, deps=(z,))
        mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES))
        step += blocks

        tile_m, tile_n = place(tile, tiles_m, tiles_n, GROUP_M)
        columns = tile_n * BLOCK_N + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, LAYOUT))
        if bias is not None:
            loaded = gl.load(bias + columns, mask=columns < N, other=0.0)
            z += gl.expand_dims(loaded.to(gl.float32), 0)
        y = EPILOGUE(z, scale.to(gl.float32))
        tma.store_wait(pendings=0)
        result.store(y.to(out.dtype))
        fence_async_shared()
        store_block(out, [tile_m * BLOCK_M, tile_n * BLOCK_N], result)
    tma.store_wait(pendings=0)


@gluon.jit
def pingpong(
    x,
    weight,
    bias,
    out,
    scale,
    M,
    N,
    K,
    EPILOGUE: gl.constexpr,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr,
    STAGES: gl.constexpr,
    GROUP_M: gl.constexpr,
    CONSUMER: gl.constexpr,
    PRODUCER: gl.constexpr,
):
    tiles_m = gl.cdiv(M, BLOCK_M)
    tiles_n = gl.cdiv(N, BLOCK_N)
    x_ring = gl.allocate_shared_memory(x.dtype, [STAGES, BLOCK_M, BLOCK_K], x.layout)
    weight_ring = gl.allocate_shared_memory(x.dtype, [STAGES, BLOCK_N, BLOCK_K], weight.layout)
    first = gl.allocate_shared_memory(x.dtype, [BLOCK_M, BLOCK_N], out.layout)
    second = gl.allocate_shared_memory(x.dtype, [BLOCK_M, BLOCK_N], out.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    turns = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for consumer in gl.static_range(2):
        mbarrier.init(turns.index(consumer), count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=1)
    ring = (x_ring, weight_ring, full, empty, turns)
    sizes = (tiles_m, tiles_n, N, K)
    gl.warp_specialize(
        [
            (consume, (ring, sizes, bias, out, first, scale, 0, GROUP_M, EPILOGUE)),
            (consume, (ring, sizes, bias, out, second, scale, 1, GROUP_M, EPILOGUE)),
            (produce, (ring, sizes, x, weight, GROUP_M)),
        ],
        [4, 1],
        [CONSUMER, PRODUCER],
    )


def specialization(problem: Problem, config: PingpongConfig) -> Specialization:
    """What the code for this problem depends on: no size."""
    absent = {} if problem.bias_dtype else {"bias": None}
    return Specialization(
        function=pingpong,
        types={
            "x": _descriptor_type(problem.dtype, config.block_m, config.block_k),
            "weight": _descriptor_type(problem.dtype, config.block_n, config.block_k),
            "bias": pointer(problem.bias_dtype),
            "out": _descriptor_type(problem.dtype, config.block_m, config.block_n),
            "scale": "fp64",
            "M": "i32",
            "N": "i32",
            "K": "i32",
        },
        constants={
            **absent,
            "EPILOGUE": sigmoid_residual,
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "BLOCK_K": config.block_k,
            "STAGES": config.num_stages,
            "GROUP_M": config.group_m,
            "CONSUMER": CONSUMER_REGISTERS,
            "PRODUCER": PRODUCER_REGISTERS,
        },
        divisors={"bias": problem.alignment},
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        max_registers=REGISTERS,
    )


def launch(problem: Problem, config: PingpongConfig) -> Launch:
    """The launch of this problem in this configuration."""
    assert problem.capability is not None
    return launch_packed(
        Arguments(
            specialization(problem, config),
            problem.capability,
            config.tiles(problem),
            {"M": problem.m, "N": problem.n, "K": problem.k},
            persistent_on=max(problem.multiprocessors, 1),
            matrices=matrices(problem),
        )
    )


def _descriptor_type(dtype: torch.dtype, rows: int, columns: int) -> str:
    layout = gl.NVMMASharedLayout.get_default_for([rows, columns], getattr(gl, f"{dtype}"[6:]))
    return f"tensordesc<{element(dtype)}[{rows}, {columns}],{layout!r}>"
