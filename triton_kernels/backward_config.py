"""How the gradient's kernel shares a matrix out among programs."""

from __future__ import annotations

from dataclasses import dataclass

from fusedops.registry import Problem

WARP = 32
MOST_COLUMNS = {2: 256, 4: 128, 8: 64}
"""Of a strip, by the size of an element: sixteen bytes a thread of a warp."""
INTERPRETED_PROGRAMS = 6


@dataclass(frozen=True)
class BackwardConfig:
    """Tiles of block_m x block_n elements, ``programs`` of them at once on a multiprocessor."""

    block_m: int
    block_n: int
    num_warps: int
    programs: int

    def __str__(self) -> str:
        return f"{self.block_m}x{self.block_n}_w{self.num_warps}_p{self.programs}"

    def max_registers(self, problem: Problem) -> int | None:
        """So many that all the programs fit."""
        if problem.dtype.itemsize == 8:
            return None
        return min(255, 65536 // (self.programs * self.num_warps * WARP) // 8 * 8)

    def share(self, problem: Problem) -> tuple[int, int]:
        """Strips of columns, and programs that share each."""
        at_once = self.programs * problem.multiprocessors
        if problem.interpreted:
            at_once = INTERPRETED_PROGRAMS
        strips = -(-problem.n // self.block_n)
        tiles = -(-problem.m // self.block_m)
        return strips, max(1, min(tiles, at_once // strips))


def configurations(problem: Problem) -> tuple[BackwardConfig, ...]:
    """Those worth trying, preferred first."""
    itemsize = problem.dtype.itemsize
    columns = min(MOST_COLUMNS[itemsize], 1 << (problem.n - 1).bit_length())
    all_of_it = []
    for vectors, warps, programs in ((2, 8, 3), (1, 8, 4), (2, 8, 4), (1, 16, 2)):
        elements = vectors * warps * WARP * 16 // itemsize
        all_of_it.append(BackwardConfig(elements // columns, columns, warps, programs))
    return tuple(all_of_it)
