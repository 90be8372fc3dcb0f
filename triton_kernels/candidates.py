"""The configurations worth trying, from large tiles to small: what the tuner measures."""

from __future__ import annotations

import torch

from fusedops.registry import Problem

from .config import (
    PersistentConfig,
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
PERSISTENT_HALF = (
    PersistentConfig(128, 256, 64, 8, 4, pieces=2, flatten=True),
    PersistentConfig(128, 128, 64, 8, 6, pieces=2, flatten=True),
    PersistentConfig(64, 64, 128, 4, 4, flatten=True),
    PersistentConfig(64, 32, 128, 4, 5, flatten=True),
)
PERSISTENT_TF32 = (
    PersistentConfig(128, 256, 32, 8, 3, pieces=2, flatten=True),
    PersistentConfig(128, 128, 32, 8, 4, pieces=2, flatten=True),
    PersistentConfig(64, 128, 32, 4, 5, flatten=True),
    PersistentConfig(64, 64, 64, 4, 4, flatten=True),
    PersistentConfig(64, 32, 64, 4, 5, flatten=True),
)
PERSISTENT_THREE_TF32 = (
    PersistentConfig(128, 128, 32, 8, 4, pieces=2),
    PersistentConfig(64, 64, 64, 4, 3),
)
SKINNY = (
    SkinnyConfig(16, 16, 64, 4, 6),
    SkinnyConfig(16, 32, 64, 4, 5),
)
MOST_ROWS = 64
"""Of x, for which the weight is read once; from 64 rows on, tiles of 64 by TMA are as fast."""


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


def skinny(problem: Problem) -> tuple[SkinnyConfig, ...]:
    return tuple(c for c in SKINNY if problem.m <= c.block_m and not c.why_invalid(problem))
