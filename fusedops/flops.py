"""FLOPs, for torch.utils.flop_counter: told when it is imported, since it imports Triton."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fusedops.on_import import when_imported


def flops(
    x_shape: Sequence[int], weight_shape: Sequence[int], *others: object, **outputs: object
) -> int:
    """Of the products and sums, as PyTorch counts a matmul's: the epilogue's are left out."""
    return 2 * math.prod(x_shape) * weight_shape[0]


def flops_of_gradient(
    dz_shape: Sequence[int], other_shape: Sequence[int], **outputs: object
) -> int:
    """Of dz's product with the weight, or with x."""
    return 2 * math.prod(dz_shape) * other_shape[-1]


def count(packets: Sequence[Any], gradients: Sequence[Any]) -> None:
    """Have the FLOPs of operators on (x, weight, ...) and on (dz, x or weight) counted."""

    def tell() -> None:
        from torch.utils.flop_counter import register_flop_formula

        register_flop_formula(list(packets))(flops)
        register_flop_formula(list(gradients))(flops_of_gradient)

    when_imported("torch.utils.flop_counter", tell)
