"""What the Hopper instances promise about themselves, without a card."""

from __future__ import annotations

from typing import Any

import pytest

from fusedops import native

SHARED_MEMORY_PER_BLOCK = 227 * 1024
LARGEST_PORTABLE_CLUSTER = 8
KERNELS = ("cuda.sm90_cooperative", "cuda.sm90_pingpong", "cuda.sm90_transposed")


def instances() -> list[Any]:
    catalogue = native.catalogue()
    found = [each for each in catalogue.instances() if each.kernel in KERNELS] if catalogue else []
    if not found:
        pytest.skip("this build has no sm_90a kernels")
    return found


def cluster(instance: Any) -> tuple[int, int, int]:
    m, n, k = instance.label.rsplit("_c", 1)[1].split("x")
    return int(m), int(n), int(k)


def test_every_dtype_has_the_same_instances() -> None:
    labels: dict[str, set[str]] = {}
    for each in instances():
        labels.setdefault(each.dtype, set()).add(f"{each.kernel} {each.label.split('_', 1)[1]}")
    assert set(labels) == {"float16", "bfloat16"}
    assert labels["float16"] == labels["bfloat16"]


def test_blocks_and_clusters_fit() -> None:
    for each in instances():
        m, n, k = cluster(each)
        assert each.shared_memory <= SHARED_MEMORY_PER_BLOCK
        assert m * n * k <= LARGEST_PORTABLE_CLUSTER


def test_a_summation_names_one_way_to_add() -> None:
    """Neither a split of K, nor where it splits, nor the transpose hides behind another's name."""
    ways: dict[str, set[tuple[bool, int, int]]] = {}
    for each in instances():
        split = cluster(each)[2]
        step = each.tile[2] if split > 1 else 0
        way = (each.kernel == "cuda.sm90_transposed", split, step)
        ways.setdefault(each.summation, set()).add(way)
    assert all(len(way) == 1 for way in ways.values()), ways
    assert len(set.union(*ways.values())) == len(ways)


def test_some_instance_takes_a_batch_of_any_size_the_same_way() -> None:
    """The unsplit, untransposed order is there in small tiles and in large ones."""
    tiles = {each.tile[0] * each.tile[1] for each in instances() if each.summation == "wgmma_k16"}
    assert min(tiles) <= 128 * 64
    assert max(tiles) >= 128 * 256
