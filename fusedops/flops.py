"""FLOPs, for torch.utils.flop_counter: told when it is imported, since it imports Triton."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

COUNTER = "torch.utils.flop_counter"


def flops(
    x_shape: Sequence[int], weight_shape: Sequence[int], *others: object, **outputs: object
) -> int:
    """Of the products and sums, as PyTorch counts a matmul's: the epilogue's are left out."""
    return 2 * math.prod(x_shape) * weight_shape[0]


def count(packets: Sequence[Any]) -> None:
    """Have the FLOPs of operators on (x, weight, ...) counted."""
    if COUNTER in sys.modules:
        _tell(sys.modules[COUNTER], packets)
    else:
        sys.meta_path.insert(0, _Finder(packets))


def _tell(counter: ModuleType, packets: Sequence[Any]) -> None:
    counter.register_flop_formula(list(packets))(flops)


class _Finder(MetaPathFinder):
    """Finds the counter's module as anyone would, and sees when it is there."""

    def __init__(self, packets: Sequence[Any]) -> None:
        self.packets = packets
        self.searching = False

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != COUNTER or self.searching:
            return None
        self.searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Telling(spec.loader, self)
        return spec


class _Telling(Loader):
    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self.loader = loader
        self.finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        sys.meta_path.remove(self.finder)
        _tell(module, self.finder.packets)
