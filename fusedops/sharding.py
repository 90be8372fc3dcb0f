"""How DTensor may lay the operators out over a mesh: told when it is imported, which takes long.

Each rule is a list of (placements of the results, placements of the arguments) along one dimension
of the mesh; DTensor combines them over all, and moves what is laid out otherwise at the least cost.
None has K sharded or an operand partial: sums must be whole before the sigmoid sees them. There is
none for out=: DTensor remembers a layout by the positional arguments, and would not look at out's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fusedops.on_import import when_imported

Rule = list[tuple[list[Any], list[Any]]]
"""The placement of what is no tensor is None."""


DTENSOR = "torch.distributed.tensor"


def share() -> None:
    """Have DTensor know the operators."""
    when_imported(DTENSOR, _tell)


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor."""
    return (
        type(tensor) is not torch.Tensor
        and DTENSOR in sys.modules
        and isinstance(tensor, sys.modules[DTENSOR].DTensor)
    )


def whole(gradient: torch.Tensor, operand: torch.Tensor) -> torch.Tensor:
    """The gradient of an operand that every device has: where it is a DTensor, itself in full."""
    if is_sharded(gradient) and not is_sharded(operand):
        return gradient.full_tensor()  # type: ignore[attr-defined, no-any-return]
    return gradient


def gradient_of_x(dz: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """dz @ weight, whatever way the rows of dz are laid out over a mesh.

    matmul makes all rows one dimension, which DTensor refuses where they are shared out unevenly
    or, in torch 2.11, by another dimension than the first. Each device's rows are its own.
    """
    return dz @ weight


def gradient_of_weight(dz: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The sum over all rows of dz's times x's, whatever way they are laid out over a mesh."""
    return dz.flatten(0, -2).mT @ x.flatten(0, -2)


def _tell() -> None:
    from torch.distributed.tensor.experimental import register_sharding

    ops = torch.ops.fusedops
    rules: dict[Any, Callable[..., Rule]] = {
        ops.gemm_sig_res.default: _with_number,
        ops.gemm_sig_res_on.default: _with_number,
        ops.gemm_sig_res.tensor: _with_tensor,
        ops.gemm_sig_res_on.tensor: _with_tensor,
        ops.gemm_sig_res_forward.default: _forward,
        ops.gemm_sig_res_backward.default: _backward,
        ops.gemm_sig_res_dx.default: _gradient_of_x,
        ops.gemm_sig_res_dweight.default: _gradient_of_weight,
    }
    for overload, rule in rules.items():
        register_sharding(overload)(rule)


def _with_number(x: Any, weight: Any, bias: Any = None, *others: object) -> Rule:
    return _product(x, bias, [None] * len(others))


def _with_tensor(x: Any, weight: Any, bias: Any, scale: Any, *others: object) -> Rule:
    return _product(x, bias, [_replicated(), *(None for _ in others)])


def _forward(
    x: Any, weight: Any, bias: Any, scale: object, device_scale: Any, *others: object
) -> Rule:
    device_placement = None if device_scale is None else _replicated()
    ways = _product(x, bias, [None, device_placement, *(None for _ in others)])
    return [([*results, *results], arguments) for results, arguments in ways]


def _product(x: Any, bias: Any, others: Sequence[Any]) -> Rule:
    """Everything replicated; weight's rows sharded, and y's columns; or rows of x, and of y."""
    from torch.distributed.tensor import Shard

    everywhere, columns = _replicated(), Shard(x.ndim - 1)
    ways: list[tuple[Any, ...]] = [
        (everywhere, everywhere, everywhere, everywhere),
        (columns, everywhere, Shard(0), Shard(0)),
        *((Shard(dim), Shard(dim), everywhere, everywhere) for dim in range(x.ndim - 1)),
    ]
    return [
        ([y], [x_placement, weight, None if bias is None else bias_placement, *others])
        for y, x_placement, weight, bias_placement in ways
    ]


def _backward(
    grad: Any,
    saved: Any,
    scale: object,
    device_scale: Any,
    steps: int,
    wants_dz: bool,
    bias_dtype: torch.dtype | None,
    wants_dscale: bool,
    *others: object,
) -> Rule:
    """dz lies as grad and y do; what is summed over a sharded dimension is partial."""
    from torch.distributed.tensor import Partial, Shard

    everywhere, columns = _replicated(), Shard(grad.ndim - 1)
    ways: list[tuple[Any, ...]] = [
        (everywhere, everywhere, everywhere),
        (columns, Shard(0), Partial()),
        *((Shard(dim), Partial(), Partial()) for dim in range(grad.ndim - 1)),
    ]
    device_placement = None if device_scale is None else everywhere
    return [
        (
            [
                dz if wants_dz else everywhere,
                everywhere if bias_dtype is None else dbias,
                dscale if wants_dscale else everywhere,
            ],
            [dz, dz, None, device_placement, *[None] * (4 + len(others))],
        )
        for dz, dbias, dscale in ways
    ]


def _gradient_of_x(dz: Any, weight: Any) -> Rule:
    from torch.distributed.tensor import Partial, Shard

    everywhere, columns = _replicated(), Shard(dz.ndim - 1)
    return [
        ([everywhere], [everywhere, everywhere]),
        ([Partial()], [columns, Shard(0)]),
        ([columns], [everywhere, Shard(1)]),
        *(([Shard(dim)], [Shard(dim), everywhere]) for dim in range(dz.ndim - 1)),
    ]


def _gradient_of_weight(dz: Any, x: Any) -> Rule:
    from torch.distributed.tensor import Partial, Shard

    everywhere, columns = _replicated(), Shard(dz.ndim - 1)
    return [
        ([everywhere], [everywhere, everywhere]),
        ([Shard(0)], [columns, everywhere]),
        ([Shard(1)], [everywhere, columns]),
        *(([Partial()], [Shard(dim), Shard(dim)]) for dim in range(dz.ndim - 1)),
    ]


def _replicated() -> Any:
    from torch.distributed.tensor import Replicate

    return Replicate()
