"""How many blocks of a kernel a multiprocessor holds, and what allows no more."""

from __future__ import annotations

from dataclasses import dataclass

from fusedops.triton_kernels.config import SHARED_MEMORY_PER_BLOCK, WARP
from fusedops.tune.trial import Resources

REGISTERS = 64 * 1024
REGISTERS_AT_ONCE = 256
"""A warp's are given out in so many."""
PARTITIONS = 4
"""Of a multiprocessor: each has its own warps and registers."""
RESERVED_SHARED = 1024
"""Bytes a block that the system keeps; by so many a multiprocessor has more than a block may ask
for."""
SHARED_AT_ONCE = 128

THREADS_AND_BLOCKS = {
    **dict.fromkeys([(8, 0), (9, 0), (10, 0), (10, 3)], (2048, 32)),
    **dict.fromkeys([(8, 6), (8, 7)], (1536, 16)),
    **dict.fromkeys([(8, 9), (12, 0), (12, 1)], (1536, 24)),
}
"""What a multiprocessor holds, by compute capability (CUDA programming guide)."""


@dataclass(frozen=True)
class Compiled:
    """registers, local_bytes: of a thread. shared_bytes: of a block, static and dynamic."""

    registers: int
    local_bytes: int
    shared_bytes: int
    threads: int


def resources(compiled: Compiled, capability: tuple[int, int]) -> Resources:
    """What a kernel takes of a card. Raises LookupError for a card that is not known."""
    if capability not in THREADS_AND_BLOCKS:
        raise LookupError("no limits are known of compute capability {}.{}".format(*capability))
    most_threads, most_blocks = THREADS_AND_BLOCKS[capability]
    warps = -(-compiled.threads // WARP)
    shared = _up(compiled.shared_bytes + RESERVED_SHARED, SHARED_AT_ONCE)
    of_a_warp = _up(max(compiled.registers, 1) * WARP, REGISTERS_AT_ONCE)
    warps_by_registers = REGISTERS // PARTITIONS // of_a_warp * PARTITIONS
    blocks = {
        "shared memory": (SHARED_MEMORY_PER_BLOCK[capability] + RESERVED_SHARED) // shared,
        "registers": warps_by_registers // warps,
        "threads": most_threads // WARP // warps,
        "blocks": most_blocks,
    }
    limiter = min(blocks, key=blocks.__getitem__)
    fit = blocks[limiter]
    return Resources(
        registers=compiled.registers,
        local_bytes=compiled.local_bytes,
        shared_bytes=compiled.shared_bytes,
        threads=compiled.threads,
        blocks=fit,
        limiter=limiter,
        occupancy=round(fit * warps * WARP / most_threads, 4),
    )


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
