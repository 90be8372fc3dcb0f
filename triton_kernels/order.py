# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""The order in which programs take the tiles of the result."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def grouped(tile, tiles_m, tiles_n, GROUP_M: tl.constexpr):
    """A tile's (row, column), down columns of GROUP_M: tiles that run together share operands."""
    most = tl.minimum(tiles_m, GROUP_M)
    first_m = tile // (most * tiles_n) * most
    height = tl.minimum(tiles_m - first_m, most)
    within = tile - first_m * tiles_n
    return first_m + within % height, within // height
