"""The configurations worth trying, from large tiles to small: what the tuner measures."""

from __future__ import annotations

import torch

from fusedops.registry import Problem

from .config import Config, load_bytes, preferred, uses_tf32

# On an RTX 4090 a 128x128x64 tile on 8 warps reaches cuBLAS in 3 stages (160 TFLOP/s, 4096^3), and
# is 2 % slower in 4; 9.0 has the shared memory for more.
HALF = (
    Config(128, 128, 64, 8, 3),
    Config(128, 128, 32, 8, 4),
    Config(128, 64, 64, 4, 3),
    Config(64, 128, 64, 4, 3),
    Config(64, 64, 64, 4, 4),
    Config(32, 64, 128, 4, 3),
    Config(16, 64, 128, 4, 4),
    Config(16, 32, 256, 4, 4),
)
HALF_SM90 = (
    Config(128, 128, 64, 8, 4),
    Config(128, 64, 64, 4, 4),
    Config(64, 128, 64, 4, 4),
    Config(64, 64, 64, 4, 5),
    Config(32, 64, 128, 4, 4),
    Config(16, 64, 128, 4, 5),
    Config(16, 32, 256, 4, 5),
)
WIDE_SM90 = Config(128, 256, 64, 8, 3)
"""Spills where an operand is not read along K."""

TF32 = (
    Config(128, 128, 32, 8, 3),
    Config(128, 64, 32, 4, 3),
    Config(64, 128, 32, 4, 3),
    Config(64, 64, 32, 4, 4),
    Config(32, 64, 64, 4, 3),
    Config(16, 64, 64, 4, 3),
    Config(16, 32, 128, 4, 4),
)
FP32 = (
    Config(128, 128, 16, 8, 4),
    Config(64, 64, 16, 4, 4),
    Config(32, 64, 32, 4, 4),
    Config(16, 64, 64, 4, 3),
    Config(16, 32, 128, 4, 3),
)
FP64 = (
    Config(128, 64, 16, 8, 3),
    Config(64, 64, 16, 8, 3),
    Config(32, 32, 16, 4, 3),
    Config(16, 32, 16, 4, 4),
)
# Elements read one at a time take a register pair of address each: larger tiles spill.
SCATTERED_HALF = (
    Config(128, 64, 32, 8, 3),
    Config(64, 64, 32, 4, 3),
    Config(32, 64, 32, 4, 3),
    Config(16, 64, 64, 4, 3),
    Config(16, 32, 64, 4, 3),
)
SCATTERED_FP32 = (
    Config(128, 64, 16, 8, 4),
    Config(64, 64, 16, 8, 4),
    Config(32, 64, 32, 4, 3),
    Config(16, 32, 64, 4, 3),
)
LEAST_LOAD_BYTES = 16
PERSISTENT_HALF = (
    Config(128, 256, 64, 8, 4, pieces=2, flatten=True),
    Config(128, 256, 64, 8, 3, pieces=2, flatten=True),
    Config(128, 256, 64, 8, 3, pieces=2),
    Config(256, 128, 64, 8, 3, pieces=2, flatten=True),
    Config(128, 128, 64, 8, 4, pieces=2, flatten=True),
    Config(128, 128, 64, 8, 4, pieces=2),
    Config(128, 64, 64, 4, 3, flatten=True),
    Config(64, 128, 64, 4, 5, flatten=True),
    Config(64, 64, 128, 4, 4, flatten=True),
    Config(64, 32, 128, 4, 5, flatten=True),
)
PERSISTENT_TF32 = (
    Config(128, 256, 32, 8, 3, pieces=2, flatten=True),
    Config(128, 128, 32, 8, 4, pieces=2, flatten=True),
    Config(64, 128, 32, 4, 5, flatten=True),
    Config(64, 64, 64, 4, 4, flatten=True),
    Config(64, 32, 64, 4, 5, flatten=True),
)


def tiled(problem: Problem) -> tuple[Config, ...]:
    if problem.dtype == torch.float64:
        return preferred(FP64, problem, tma=False, intensity=16)
    scattered = load_bytes(problem) < LEAST_LOAD_BYTES
    if problem.dtype == torch.float32:
        tf32 = uses_tf32(problem)
        single = SCATTERED_FP32 if scattered else TF32 if tf32 else FP32
        return preferred(single, problem, tma=False, intensity=64 if tf32 else 32)
    ample = problem.capability is not None and 9 <= problem.capability[0] < 12
    half: tuple[Config, ...] = HALF
    if scattered:
        half = SCATTERED_HALF
    elif ample:
        along_k = problem.x_strides[1] == problem.weight_strides[1] == 1
        half = (WIDE_SM90, *HALF_SM90) if along_k else HALF_SM90
    return preferred(half, problem, tma=False, intensity=85 if ample else 64)


def persistent_tma(problem: Problem) -> tuple[Config, ...]:
    return preferred(all_persistent_tma(problem), problem, tma=True, intensity=85)


def all_persistent_tma(problem: Problem) -> tuple[Config, ...]:
    """Valid or not, for a problem's dtype."""
    return PERSISTENT_TF32 if uses_tf32(problem) else PERSISTENT_HALF
