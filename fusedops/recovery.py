"""Whether a gradient finds z from y, or has it kept: docs/numerics.md has the analysis."""

from __future__ import annotations

import torch

LEAST_SCALE, MOST_SCALE = -3.0, 12.0
"""Between these a rounding of y moves the gradient by at most 3.4 roundings."""

LEAST_FOR_ONE_STEP, MOST_FOR_ONE_STEP = -1.0, 2.0
"""Between these one step is as exact as float32 is."""


def recovery_steps(scale: float, dtype: torch.dtype) -> int | None:
    """How many steps recover z from y of a dtype, to the accuracy it is evaluated in.

    None: z is to be kept instead, since the map from z to y is not, or hardly, invertible there.
    """
    if not LEAST_SCALE <= scale <= MOST_SCALE:
        return None
    if dtype == torch.float64:
        return 3
    return 1 if LEAST_FOR_ONE_STEP <= scale <= MOST_FOR_ONE_STEP else 2
