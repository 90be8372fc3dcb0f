"""What each kernel is tuned over: every valid tile, in the depths and widths worth a try.

Configurations worth trying without a search are in candidates.py; those are among these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import Any

from fusedops.registry import Parameters, Problem, Space

from . import candidates
from .config import (
    Config,
    PersistentConfig,
    PingpongConfig,
    SkinnyConfig,
    TiledConfig,
    load_bytes,
    uses_three_tf32,
)

BLOCKS = (16, 32, 64, 128, 256)
WARPS, STAGES = (4, 8), (2, 3)
GROUPS = (8, 16)
"""Tiles in a column of the order of launch."""
WIDE = 128
"""Columns of a tile from which it is stored in two pieces, which leaves room for another stage."""


@cache
def _tiled() -> tuple[TiledConfig, ...]:
    return tuple(TiledConfig(*each, group_m=group) for group in GROUPS for each in _blocks())


@cache
def _persistent_tma() -> tuple[PersistentConfig, ...]:
    return tuple(
        PersistentConfig(*each, group_m=group, pieces=2 if each[1] >= WIDE else 1, flatten=flatten)
        for flatten in (True, False)
        for group in GROUPS
        for each in _blocks()
    )


@cache
def _pingpong() -> tuple[PingpongConfig, ...]:
    return tuple(PingpongConfig(*each, group_m=group) for group in GROUPS for each in _blocks())


@cache
def _skinny() -> tuple[SkinnyConfig, ...]:
    return tuple(SkinnyConfig(*each) for each in _blocks(least=8))


def _blocks(least: int = BLOCKS[0]) -> Iterator[tuple[int, int, int, int, int]]:
    sides = tuple(dict.fromkeys((least, *BLOCKS)))
    return product(sides, sides, BLOCKS, WARPS, STAGES)


Products = Callable[[], tuple[Config, ...]]
Candidates = Callable[[Problem], tuple[Config, ...]]


def _is_plain(problem: Problem) -> bool:
    """Whether both operands are read along K in whole vectors: others' tiles are chosen by hand,
    since most spill."""
    along_k = problem.x_strides[1] == problem.weight_strides[1] == 1
    return along_k and load_bytes(problem) >= candidates.LEAST_LOAD_BYTES


def _is_apart(problem: Problem, config: Config) -> bool:
    """Whether it differs in more than its name from another one."""
    if isinstance(config, PersistentConfig) and config.flatten == uses_three_tf32(problem):
        return False  # what its candidates do: nobody has seen the other be faster
    smallest, *_ = GROUPS
    group = getattr(config, "group_m", smallest)
    return bool(group == smallest or smallest * config.block_m < problem.m)


def _why_invalid(problem: Problem, config: Config, changed: Parameters) -> str:
    reasons = replace(config, **changed).why_invalid(problem)
    return reasons[0] if reasons else "it is not among those that are tried"


def _space(products: Products, preferred: Candidates, problem: Problem) -> Space:
    own = preferred(problem)
    others = [
        config
        for config in (products() if _is_plain(problem) else ())
        if config not in own and _is_apart(problem, config) and not config.why_invalid(problem)
    ]
    return Space((*own, *others), why_not=partial(_why_invalid, problem))


@cache
def _by_name(products: Products) -> Mapping[str, Config]:
    return {str(config): config for config in products()}


def _named(products: Products, problem: Problem, name: str) -> Config | None:
    config = _by_name(products).get(name) if _is_plain(problem) else None
    return None if config is None or config.why_invalid(problem) else config


def of(kernel: str) -> tuple[Callable[[Problem], Space], Callable[[Problem, str], Any]]:
    """A kernel's space, and what finds a valid configuration of it by name."""
    products, preferred = _SPACES[kernel]
    return partial(_space, products, preferred), partial(_named, products)


_SPACES: Mapping[str, tuple[Products, Candidates]] = {
    "tiled": (_tiled, candidates.tiled),
    "persistent_tma": (_persistent_tma, candidates.persistent_tma),
    "pingpong": (_pingpong, candidates.pingpong),
    "skinny": (_skinny, candidates.skinny),
}
