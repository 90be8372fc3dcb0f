"""The configurations worth trying, from large tiles to small: what the tuner measures."""

from __future__ import annotations

import math

import torch

from fusedops.registry import Problem

from .config import (
    PersistentConfig,
    PingpongConfig,
    SkinnyConfig,
    TiledConfig,
    load_bytes,
    preferred,
    uses_tf32,
    uses_three_tf32,
)

# On an RTX 4090 a 128x128x64 tile on 8 warps reaches cuBLAS in 3 stages (160 TFLOP/s, 4096^3), and
# is 2 % slower in 4; 9.0 has the shared memory for more.
HALF = (
    TiledConfig(128, 128, 64, 8, 3),
    TiledConfig(128, 128, 32, 8, 4),
    TiledConfig(128, 64, 64, 4, 3),
    TiledConfig(64, 128, 64, 4, 3),
    TiledConfig(64, 64, 64, 4, 4),
    TiledConfig(32, 64, 128, 4, 3),
    TiledConfig(16, 64, 128, 4, 4),
    TiledConfig(16, 32, 256, 4, 4),
)
HALF_SM90 = (
    TiledConfig(128, 128, 64, 8, 4),
    TiledConfig(128, 64, 64, 4, 4),
    TiledConfig(64, 128, 64, 4, 4),
    TiledConfig(64, 64, 64, 4, 5),
    TiledConfig(32, 64, 128, 4, 4),
    TiledConfig(16, 64, 128, 4, 5),
    TiledConfig(16, 32, 256, 4, 5),
)
WIDE_SM90 = TiledConfig(128, 256, 64, 8, 3)
"""Spills where an operand is not read along K."""

TF32 = (
    TiledConfig(128, 128, 32, 8, 3),
    TiledConfig(128, 64, 32, 4, 3),
    TiledConfig(64, 128, 32, 4, 3),
    TiledConfig(64, 64, 32, 4, 4),
    TiledConfig(32, 64, 64, 4, 3),
    TiledConfig(16, 64, 64, 4, 3),
    TiledConfig(16, 32, 128, 4, 4),
)
FP32 = (
    TiledConfig(128, 128, 16, 8, 4),
    TiledConfig(64, 64, 16, 4, 4),
    TiledConfig(32, 64, 32, 4, 4),
    TiledConfig(16, 64, 64, 4, 3),
    TiledConfig(16, 32, 128, 4, 3),
)
FP64 = (
    TiledConfig(128, 64, 16, 8, 3),
    TiledConfig(64, 64, 16, 8, 3),
    TiledConfig(32, 32, 16, 4, 3),
    TiledConfig(16, 32, 16, 4, 4),
)
# Elements read one at a time take a register pair of address each: larger tiles spill.
SCATTERED_HALF = (
    TiledConfig(128, 64, 32, 8, 3),
    TiledConfig(64, 64, 32, 4, 3),
    TiledConfig(32, 64, 32, 4, 3),
    TiledConfig(16, 64, 64, 4, 3),
    TiledConfig(16, 32, 64, 4, 3),
)
SCATTERED_FP32 = (
    TiledConfig(128, 64, 16, 8, 4),
    TiledConfig(64, 64, 16, 8, 4),
    TiledConfig(32, 64, 32, 4, 3),
    TiledConfig(16, 32, 64, 4, 3),
)
LEAST_LOAD_BYTES = 16
# On an H200, microseconds: the widest tile that fills the card wins (1024, 8192, 8192: 180, against
# 187 for 128x128); next to it 128x128 with two programs on a multiprocessor, whose stores another's
# products cover (8192, 8192, 1024: 230 against 243); where a multiprocessor has one tile, as many
# stages as fit (512, 4096, 4096: 31 in six, 37 in four).
PERSISTENT_HALF = (
    PersistentConfig(128, 256, 64, 8, 4, pieces=2, flatten=True),
    PersistentConfig(128, 256, 64, 8, 4, group_m=16, pieces=2, flatten=True),
    PersistentConfig(128, 128, 64, 8, 6, pieces=2, flatten=True),
    PersistentConfig(128, 128, 64, 4, 3, pieces=4, flatten=True),
    PersistentConfig(128, 64, 64, 4, 8, pieces=2, flatten=True),
    PersistentConfig(64, 128, 64, 4, 8, pieces=2, flatten=True),
    PersistentConfig(64, 64, 128, 4, 6, flatten=True),
    PersistentConfig(64, 64, 64, 4, 6, flatten=True),
    PersistentConfig(64, 32, 256, 4, 4, flatten=True),
)
PERSISTENT_TF32 = (
    PersistentConfig(128, 256, 32, 8, 4, pieces=4, flatten=True),
    PersistentConfig(64, 128, 32, 4, 7, pieces=2, flatten=True),
    PersistentConfig(64, 64, 64, 4, 6, flatten=True),
)
# On an H200, times cuBLAS: 2.13 at (1024, 8192, 8192), 2.13 at 1024^3, 1.02 at (16, 4096, 4096).
PERSISTENT_THREE_TF32 = (
    PersistentConfig(128, 128, 64, 8, 3, pieces=2),
    PersistentConfig(64, 64, 128, 4, 2),
    PersistentConfig(64, 32, 128, 4, 3),
)
# On an H200, microseconds: 197 at (8192, 8192, 1024), where persistent_tma takes 233; 1554 at
# 8192^3, against 1610; the narrow ones where there are few tiles: 34 at (1024, 1024, 8192), against
# 36.
PINGPONG = (
    PingpongConfig(128, 128, 64, 4, 5),
    PingpongConfig(64, 128, 64, 4, 8),
    PingpongConfig(128, 64, 64, 4, 8),
)
SKINNY = (
    SkinnyConfig(8, 16, 128, 4, 5),
    SkinnyConfig(8, 32, 64, 4, 5),
    SkinnyConfig(8, 64, 64, 4, 3),
    SkinnyConfig(16, 8, 128, 4, 8),
    SkinnyConfig(16, 16, 64, 4, 6),
    SkinnyConfig(16, 32, 64, 4, 5),
    SkinnyConfig(16, 64, 64, 4, 3),
    SkinnyConfig(32, 32, 64, 4, 4),
    SkinnyConfig(32, 64, 64, 4, 3),
)
MOST_ROWS = 32
"""Of x, for which the weight is read once; at 64 rows, tiles of 64 by TMA are faster."""


def tiled(problem: Problem) -> tuple[TiledConfig, ...]:
    if problem.dtype == torch.float64:
        return preferred(FP64, problem)
    scattered = load_bytes(problem) < LEAST_LOAD_BYTES
    if problem.dtype == torch.float32:
        single = SCATTERED_FP32 if scattered else TF32 if uses_tf32(problem) else FP32
        return preferred(single, problem)
    ample = problem.capability is not None and 9 <= problem.capability[0] < 12
    half: tuple[TiledConfig, ...] = HALF
    if scattered:
        half = SCATTERED_HALF
    elif ample:
        along_k = problem.x_strides[1] == problem.weight_strides[1] == 1
        half = (WIDE_SM90, *HALF_SM90) if along_k else HALF_SM90
    return preferred(half, problem)


def persistent_tma(problem: Problem) -> tuple[PersistentConfig, ...]:
    return preferred(all_persistent_tma(problem), problem)


def all_persistent_tma(problem: Problem) -> tuple[PersistentConfig, ...]:
    """Valid or not, for a problem's dtype."""
    if uses_three_tf32(problem):
        return PERSISTENT_THREE_TF32
    return PERSISTENT_TF32 if uses_tf32(problem) else PERSISTENT_HALF


def pingpong(problem: Problem) -> tuple[PingpongConfig, ...]:
    return preferred(PINGPONG, problem)


def skinny(problem: Problem) -> tuple[SkinnyConfig, ...]:
    """The least rows that hold x, and of those the strips that share the card out best.

    That is 1.7 to 1.9 programs a multiprocessor (N of 4096 in strips of 16, of 8192 in 32, of 14336
    in 64: H200). That nearly each has one comes first, a judgement. Strips of 8 read x once for
    half as much of the weight: only for want of programs.
    """
    processors = max(problem.multiprocessors, 1)

    def misfit(config: SkinnyConfig) -> tuple[int, bool, float]:
        programs = -(-problem.n // config.block_n)
        too_narrow = config.block_n < 16
        distance = abs(math.log2(programs / (1.75 * processors)))
        return config.block_m, programs < 0.9 * processors, distance + too_narrow

    return tuple(sorted((c for c in SKINNY if not c.why_invalid(problem)), key=misfit))
