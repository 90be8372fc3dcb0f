"""The memory layouts of a matrix, by name: strides in elements."""

from __future__ import annotations

from collections.abc import Callable

_PADDING = 8

_STRIDES: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "contiguous": lambda rows, columns: (columns, 1),
    "padded": lambda rows, columns: (columns + _PADDING, 1),
    "sliced": lambda rows, columns: (columns + 1, 1),
    "transposed": lambda rows, columns: (1, rows),
    "strided": lambda rows, columns: (2 * columns, 2),
    "expanded": lambda rows, columns: (0, 1),
    "permuted": lambda rows, columns: (columns, 1),
}
LAYOUTS = tuple(_STRIDES)
"""``padded`` rows keep 16-byte alignment, ``sliced`` rows lose it. ``expanded`` repeats one row.
``permuted`` swaps x's two leading dimensions: the operator has to copy it."""

KERNEL_LAYOUTS = tuple(name for name in LAYOUTS if name != "permuted")


def strides(layout: str, rows: int, columns: int) -> tuple[int, int]:
    """The strides between rows and between columns."""
    return _STRIDES[layout](rows, columns)
