"""Configurations: what one is, which are valid, and which is preferred for a problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch

from fusedops.registry import Problem

SHARED_MEMORY_PER_BLOCK = {
    (8, 0): 166912,
    (8, 6): 101376,
    (8, 7): 166912,
    (8, 9): 101376,
    (9, 0): 232448,
    (10, 0): 232448,
    (10, 3): 232448,
    (12, 0): 101376,
    (12, 1): 101376,
}
"""Bytes a block may ask for, by compute capability (CUDA programming guide)."""

LEAST_SHARED_MEMORY = 49152
"""What every card gives a block, so what is assumed of a card that the table does not know."""

MOST_TILES = 2**31 - 1 - 2**16
"""The widest grid a card launches, less one turn of any card's multiprocessors."""

MOST_REDUCTION = 2**31 - 1 - 4096
"""The longest K whose last block is still counted in 32 bits."""

WARP = 32
MOST_DEPTH_WITH_Z = 64
MMA_REGISTERS = 128
FMA_REGISTERS = 64
"""Of a thread's 255, what sums may take, on tensor cores and on FMA units. Judgements: the tests
compile every tile and look for spills."""
BARRIERS_AND_BIAS = 1024


@dataclass(frozen=True)
class Config:
    """A tile of block_m by block_n results, its operands brought in block_k at a time.

    num_stages: blocks of the operands in flight.
    """

    LEAST_M: ClassVar = 16
    LEAST_N: ClassVar = 16

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int

    def __str__(self) -> str:
        blocks = f"{self.block_m}x{self.block_n}x{self.block_k}"
        return f"{blocks}_w{self.num_warps}_s{self.num_stages}"

    def tiles(self, problem: Problem) -> int:
        return -(-problem.m // self.block_m) * -(-problem.n // self.block_n)

    def registers(self, problem: Problem) -> int:
        """What the accumulator takes of each thread."""
        width = max(problem.dtype.itemsize, 4) // 4
        return width * self.block_m * self.block_n // (WARP * self.num_warps)

    def most_registers(self, problem: Problem) -> int:
        """What it may take before the compiler spills."""
        return MMA_REGISTERS if tensor_cores(problem) else FMA_REGISTERS

    def shared_memory(self, problem: Problem) -> int:
        """Bytes of shared memory a block needs, from above."""
        raise NotImplementedError

    def _stage(self, problem: Problem) -> int:
        """Bytes of one block of both operands."""
        return (self.block_m + self.block_n) * self.block_k * problem.dtype.itemsize

    def _result(self, problem: Problem) -> int:
        return self.block_m * self.block_n * problem.dtype.itemsize

    def why_invalid(self, problem: Problem) -> tuple[str, ...]:
        """Every reason it cannot serve a problem; the only statement of validity."""
        reasons = []
        for name, block, least in (
            ("block_m", self.block_m, self.LEAST_M),
            ("block_n", self.block_n, self.LEAST_N),
            ("block_k", self.block_k, 16),
        ):
            if block < least or block > 256 or block & (block - 1):
                reasons.append(f"{name} is {block}: it must be a power of two from {least} to 256")
        if self.num_warps not in (1, 2, 4, 8, 16):
            reasons.append(f"num_warps is {self.num_warps}: it must be 1, 2, 4, 8 or 16")
        if self.num_stages < 1:
            reasons.append(f"num_stages is {self.num_stages}: it counts blocks, from 1 on")
        if self.num_warps >= 1:
            registers, most = self.registers(problem), self.most_registers(problem)
            if registers > most:
                reasons.append(
                    f"its accumulator takes {registers} registers of each thread, and more than "
                    f"{most} spill: use more warps or a smaller tile"
                )
        if problem.writes_z and (
            self.registers(problem) > most_registers_with_z(problem)
            or self.block_k > MOST_DEPTH_WITH_Z
        ):
            reasons.append(
                "z is wanted beside y, and the addresses of both spill: use a smaller tile"
            )
        needed = self.shared_memory(problem)
        limit = shared_memory_limit(problem)
        if needed > limit:
            reasons.append(
                f"it needs {needed} bytes of shared memory a block, and the card gives {limit}: "
                "use fewer stages or a smaller tile"
            )
        tiles = self.tiles(problem)
        if tiles > MOST_TILES:
            reasons.append(
                f"the result is {tiles} tiles of {self.block_m} x {self.block_n}, and a grid holds "
                f"at most {MOST_TILES}: use a larger tile"
            )
        return tuple(reasons)


@dataclass(frozen=True)
class TiledConfig(Config):
    """group_m: tiles in a column of the order of launch."""

    group_m: int = 8

    def __str__(self) -> str:
        return f"{Config.__str__(self)}_g{self.group_m}"

    def shared_memory(self, problem: Problem) -> int:
        """Where products run asynchronously, from 9.0 up to 12.0, each stage has a buffer;
        elsewhere one stage is in registers."""
        asynchronous = problem.capability is not None and 9 <= problem.capability[0] < 12
        buffers = self.num_stages if asynchronous else max(self.num_stages - 1, 1)
        operands = buffers * self._stage(problem)
        return max(operands, self._result(problem)) + BARRIERS_AND_BIAS * asynchronous


@dataclass(frozen=True)
class PersistentConfig(Config):
    """group_m: as above. pieces: the parts of block_n in which a tile is stored. flatten: whether
    a program starts on the next tile's operands while it stores this one's results."""

    group_m: int = 8
    pieces: int = 1
    flatten: bool = False

    def __str__(self) -> str:
        parts = [Config.__str__(self), f"g{self.group_m}"]
        if self.pieces > 1:
            parts.append(f"p{self.pieces}")
        if self.flatten:
            parts.append("f")
        return "_".join(parts)

    def registers(self, problem: Problem) -> int:
        sums = 2 if uses_three_tf32(problem) else 1
        return sums * Config.registers(self, problem)

    def most_registers(self, problem: Problem) -> int:
        return MMA_REGISTERS if stores_by_tma(problem) else FMA_REGISTERS

    def shared_memory(self, problem: Problem) -> int:
        result = self._result(problem) // self.pieces
        if not uses_three_tf32(problem):
            return self.num_stages * self._stage(problem) + result + BARRIERS_AND_BIAS
        # One stage is in registers, and the small part of the weight is written beside it.
        small_part = self.block_n * self.block_k * problem.dtype.itemsize
        buffers = max(self.num_stages - 1, 1)
        return buffers * self._stage(problem) + small_part + result + BARRIERS_AND_BIAS

    def why_invalid(self, problem: Problem) -> tuple[str, ...]:
        reasons = Config.why_invalid(self, problem)
        if self.pieces not in (1, 2, 4):
            reasons += (f"pieces is {self.pieces}: a tile is stored in 1, 2 or 4",)
        return reasons


@dataclass(frozen=True)
class PingpongConfig(TiledConfig):
    """num_warps: of each of the two consumers, a warpgroup."""

    LEAST_M: ClassVar = 64

    def shared_memory(self, problem: Problem) -> int:
        """A ring that the consumers share, and a result each."""
        results = 2 * self._result(problem)
        return self.num_stages * self._stage(problem) + results + BARRIERS_AND_BIAS

    def why_invalid(self, problem: Problem) -> tuple[str, ...]:
        reasons = Config.why_invalid(self, problem)
        if self.num_warps != 4:
            reasons += (f"num_warps is {self.num_warps}: a consumer is one warpgroup, 4 warps",)
        return reasons


@dataclass(frozen=True)
class SkinnyConfig(Config):
    """block_k is each warp's: num_warps of them, side by side, are brought in at a time."""

    LEAST_M: ClassVar = 8
    LEAST_N: ClassVar = 8

    def registers(self, problem: Problem) -> int:
        """Every warp sums a whole tile."""
        return self.num_warps * Config.registers(self, problem)

    def shared_memory(self, problem: Problem) -> int:
        buffers = max(self.num_stages - 1, 1)
        operands = buffers * self.num_warps * self._stage(problem)
        parts = self.num_warps * self.block_m * self.block_n * 4
        return max(operands, parts)

    def why_invalid(self, problem: Problem) -> tuple[str, ...]:
        reasons = Config.why_invalid(self, problem)
        if self.block_m < problem.m:
            reasons += (f"block_m is {self.block_m}: it must hold all {problem.m} rows of x",)
        if self.block_m < 16 and self.block_n < 16:
            reasons += ("block_m and block_n are below 16, and one of mma's sides is 16",)
        return reasons


def uses_tf32(problem: Problem) -> bool:
    return problem.dtype == torch.float32 and problem.fp32_precision == "tf32"


def uses_three_tf32(problem: Problem) -> bool:
    """Whether a kernel of tensor cores has to take float32's products in three parts."""
    return problem.dtype == torch.float32 and problem.fp32_precision != "tf32"


def overlaps(problem: Problem) -> bool:
    """Whether the card can launch a kernel while the one before it finishes."""
    return problem.capability is not None and problem.capability >= (9, 0)


def most_registers_with_z(problem: Problem) -> int:
    """What the accumulator may take beside two results: found by `lint --compiled`, both cards."""
    return 32 if uses_three_tf32(problem) else 64


def tensor_cores(problem: Problem) -> bool:
    """Whether the products are taken in half precision or TF32, so in few registers."""
    return problem.dtype.itemsize == 2 or uses_tf32(problem)


def divisor(value: int, limit: int) -> int:
    """The largest power of two that divides ``value``, at most ``limit``."""
    return min(value & -value, limit) if value else limit


def load_bytes(problem: Problem) -> int:
    """The bytes that pointer loads of both operands can take at once, at most 16."""
    itemsize = problem.dtype.itemsize

    def elements(rows: int, strides: tuple[int, int]) -> int:
        row, column = strides
        if column == 1:
            return min(divisor(row, 16), divisor(problem.k, 16))
        return min(divisor(column, 16), divisor(rows, 16)) if row == 1 else 1

    wide = min(elements(problem.m, problem.x_strides), elements(problem.n, problem.weight_strides))
    return min(16, max(problem.alignment, itemsize), wide * itemsize)


def shared_memory_limit(problem: Problem) -> int:
    if problem.capability is None:
        return max(SHARED_MEMORY_PER_BLOCK.values())
    return SHARED_MEMORY_PER_BLOCK.get(problem.capability, LEAST_SHARED_MEMORY)


def stores_by_tma(problem: Problem) -> bool:
    """Whether rows of the result start at multiples of 16 bytes, as TMA needs."""
    return problem.n * problem.dtype.itemsize % 16 == 0


AnyConfig = TypeVar("AnyConfig", bound=Config)

# Of an NVIDIA H200, whose ratios other cards roughly share: microseconds between two calls of an
# empty kernel, bytes to and from memory in a microsecond, and products of one multiprocessor.
LAUNCH = 4.0
BYTES = 4.3e6
PRODUCTS = {2: 5e6, 4: 2e5, 8: 1e5}
TF32_PRODUCTS = 2.5e6


def modelled_time(problem: Problem, config: Config) -> float:
    """Microseconds, roughly: the launch, and its products or what it moves, whichever is more."""
    touched = problem.n * problem.k + problem.m * problem.k + problem.m * problem.n
    moving = touched * problem.dtype.itemsize / BYTES
    return LAUNCH + max(_multiplying(problem, config), moving)


def _multiplying(problem: Problem, config: Config) -> float:
    """Microseconds of the busiest multiprocessor.

    It takes ceil(tiles / multiprocessors) tiles, each at the cost of its products or, where there
    are fewer than ``intensity`` for every row and column brought in, at that of its operands. So a
    large tile wins where there are tiles enough to share out, and a small one where there are not.
    The intensities are judged, from which tiles win in docs/performance/triton.md.
    """
    asynchronous = problem.capability is not None and 9 <= problem.capability[0] < 12
    if problem.dtype.itemsize == 2:
        intensity = 85 if asynchronous else 64
    elif problem.dtype == torch.float32:
        intensity = 64 if uses_tf32(problem) else 32
    else:
        intensity = 16
    rate = TF32_PRODUCTS if uses_tf32(problem) else PRODUCTS[problem.dtype.itemsize]
    turns = -(-config.tiles(problem) // max(problem.multiprocessors, 1))
    operands = intensity * (config.block_m + config.block_n)
    return turns * max(config.block_m * config.block_n, operands) * problem.k / rate


def preferred(candidates: Sequence[AnyConfig], problem: Problem) -> tuple[AnyConfig, ...]:
    """The valid candidates, the one that should be fastest first."""
    valid = [config for config in candidates if not config.why_invalid(problem)]
    return tuple(sorted(valid, key=lambda config: _multiplying(problem, config)))
