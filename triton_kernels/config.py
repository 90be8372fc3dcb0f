"""Configurations: what one is, which are valid, and which is preferred for a problem."""

from __future__ import annotations

from dataclasses import dataclass

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

MOST_REDUCTION = 2**31 - 1 - 256
"""The longest K whose last block is still counted in 32 bits."""

WARP = 32
MMA_REGISTERS = 128
FMA_REGISTERS = 64


@dataclass(frozen=True, slots=True)
class Config:
    """A tile of block_m by block_n results, its operands brought in block_k at a time.

    num_stages: blocks of the operands in flight. group_m: tiles in a column of the order of launch.
    pieces: the parts of block_n in which the persistent kernel stores a tile. flatten: whether it
    starts on the next tile's operands while it stores this one's results.
    """

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    group_m: int = 8
    pieces: int = 1
    flatten: bool = False

    def __str__(self) -> str:
        parts = [f"{self.block_m}x{self.block_n}x{self.block_k}"]
        parts += [f"w{self.num_warps}", f"s{self.num_stages}", f"g{self.group_m}"]
        if self.pieces > 1:
            parts.append(f"p{self.pieces}")
        if self.flatten:
            parts.append("f")
        return "_".join(parts)

    def tiles(self, problem: Problem) -> int:
        return -(-problem.m // self.block_m) * -(-problem.n // self.block_n)


def uses_tf32(problem: Problem) -> bool:
    return problem.dtype == torch.float32 and problem.fp32_precision == "tf32"


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


def shared_memory(config: Config, problem: Problem, *, tma: bool) -> int:
    """Bytes of shared memory a block needs, from above.

    Where loads are TMA's or products run asynchronously, from 9.0 up to 12.0, each stage has a
    buffer; elsewhere one stage is in registers.
    """
    itemsize = problem.dtype.itemsize
    asynchronous = problem.capability is not None and 9 <= problem.capability[0] < 12
    buffers = config.num_stages if asynchronous or tma else max(config.num_stages - 1, 1)
    operands = buffers * (config.block_m + config.block_n) * config.block_k * itemsize
    result = config.block_m * config.block_n * itemsize // config.pieces
    barriers_and_bias = 1024 if asynchronous or tma else 0
    if tma:
        return operands + result + barriers_and_bias
    return max(operands, result) + barriers_and_bias


def why_invalid(config: Config, problem: Problem, *, tma: bool) -> tuple[str, ...]:
    """Every reason a configuration cannot serve a problem; the only statement of validity."""
    reasons = []
    blocks = (config.block_m, config.block_n, config.block_k)
    for name, block in zip(("block_m", "block_n", "block_k"), blocks, strict=True):
        if block < 16 or block > 256 or block & (block - 1):
            reasons.append(f"{name} is {block}: it must be a power of two from 16 to 256")
    if config.num_warps not in (1, 2, 4, 8, 16):
        reasons.append(f"num_warps is {config.num_warps}: it must be 1, 2, 4, 8 or 16")
    if config.num_stages < 1 or config.group_m < 1:
        reasons.append(
            f"num_stages is {config.num_stages} and group_m {config.group_m}: both count"
        )
    if config.pieces not in ((1, 2) if tma else (1,)):
        reasons.append(f"pieces is {config.pieces}: a tile is stored whole, or by TMA in halves")
    if config.num_warps >= 1:
        width = max(problem.dtype.itemsize, 4) // 4
        registers = width * config.block_m * config.block_n // (WARP * config.num_warps)
        most = MMA_REGISTERS if tensor_cores(problem) else FMA_REGISTERS
        if tma and not stores_by_tma(problem):
            most = FMA_REGISTERS
        if registers > most:
            reasons.append(
                f"its accumulator takes {registers} registers of each thread, and more than {most} "
                "spill: use more warps or a smaller tile"
            )
    needed = shared_memory(config, problem, tma=tma)
    limit = shared_memory_limit(problem)
    if needed > limit:
        reasons.append(
            f"it needs {needed} bytes of shared memory a block, and the card gives {limit}: use "
            "fewer stages or a smaller tile"
        )
    tiles = config.tiles(problem)
    if tiles > MOST_TILES:
        reasons.append(
            f"the result is {tiles} tiles of {config.block_m} x {config.block_n}, and a grid holds "
            f"at most {MOST_TILES}: use a larger tile"
        )
    return tuple(reasons)


def shared_memory_limit(problem: Problem) -> int:
    if problem.capability is None:
        return max(SHARED_MEMORY_PER_BLOCK.values())
    return SHARED_MEMORY_PER_BLOCK.get(problem.capability, LEAST_SHARED_MEMORY)


def stores_by_tma(problem: Problem) -> bool:
    """Whether rows of the result start at multiples of 16 bytes, as TMA needs."""
    return problem.n * problem.dtype.itemsize % 16 == 0


def preferred(
    candidates: tuple[Config, ...], problem: Problem, *, tma: bool, intensity: int
) -> tuple[Config, ...]:
    """The valid candidates, the one that should be fastest first.

    A multiprocessor takes ceil(tiles / multiprocessors) tiles, each at the cost of its products or,
    below ``intensity`` products for every row and column brought in, at that of its operands. So a
    large tile wins where there are tiles enough to share out, and a small one where there are not.
    """
    processors = max(problem.multiprocessors, 1)

    def cost(config: Config) -> int:
        products = config.block_m * config.block_n
        operands = config.block_m + config.block_n
        turns = -(-config.tiles(problem) // processors)
        return turns * max(products, intensity * operands)

    valid = [config for config in candidates if not why_invalid(config, problem, tma=tma)]
    return tuple(sorted(valid, key=cost))
