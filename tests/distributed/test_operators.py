"""The operators on DTensors: every layout of the operands, against plain tensors."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.placement_types import Placement

import fusedops

WORLDS = (2, 4)
BOTH = pytest.mark.parametrize("world", WORLDS)
EVERYWHERE, SUMMED = Replicate(), Partial()
NUMBER, KEPT_Z = 1.5, 20.0
"""Scales: of the first z is found again from y, of the second it is kept."""

close = torch.testing.assert_close


def line() -> DeviceMesh:
    return init_device_mesh("cpu", (dist.get_world_size(),))


def laid_out(tensor: torch.Tensor, mesh: DeviceMesh, *placements: Placement) -> torch.Tensor:
    """A leaf; where it is partial, every process has its part of each element."""
    if SUMMED in placements:
        part = tensor / mesh.size()
        shared = DTensor.from_local(part, mesh, placements, run_check=False)
    else:
        shared = distribute_tensor(tensor, mesh, placements)
    return shared.requires_grad_()


def operands(*x_shape: int, n: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """x, weight, bias."""
    shapes = (x_shape, (n, x_shape[-1]), (n,))
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def leaves(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def full(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def check_like_plain(tensors: list[Any], shared: list[Any], scale: Any, shared_scale: Any) -> Any:
    """y and every gradient of the DTensors are those of the plain tensors; returns y."""
    plain = leaves(tensors)
    y = fusedops.gemm_sig_res(*plain, scale)
    shared_y = fusedops.gemm_sig_res(*shared, shared_scale)
    assert not any(placement.is_partial() for placement in shared_y.placements)
    close(full(shared_y), y)
    grad = torch.randn_like(y)
    y.backward(grad)
    mesh = shared_y.device_mesh
    shared_y.backward(distribute_tensor(grad, mesh, shared_y.placements))
    for mine, theirs in zip(shared, plain, strict=True):
        close(full(mine.grad), theirs.grad)
    if isinstance(scale, torch.Tensor):
        close(full(shared_scale.grad), scale.grad)
    return shared_y


def every_layout(x_shape: list[int], n: int) -> None:
    mesh = line()
    tensors = operands(*x_shape, n=n)
    ways = itertools.product(
        [EVERYWHERE, SUMMED, *(Shard(dim) for dim in range(len(x_shape)))],
        [EVERYWHERE, SUMMED, Shard(0), Shard(1)],
    )
    for index, way in enumerate(ways):
        of_bias = (EVERYWHERE, SUMMED, Shard(0))[index % 3]
        shared = [
            laid_out(each, mesh, at) for each, at in zip(tensors, (*way, of_bias), strict=True)
        ]
        scale: Any = (NUMBER, KEPT_Z, None)[(index + index // 4) % 3]
        shared_scale = scale
        if scale is None:
            scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
            shared_scale = laid_out(scale.detach(), mesh, EVERYWHERE)
        check_like_plain(tensors, shared, scale, shared_scale)


@pytest.mark.supports(
    "DTensor: operands and gradients in any layout, uneven, partial and K sharded too"
)
@BOTH
@pytest.mark.parametrize(
    "x_shape, n", [((6, 8), 8), ((3, 5, 7), 9), ((1, 3), 1)], ids=["even", "uneven", "tiny"]
)
def test_every_layout_gives_what_plain_tensors_give(run, world, x_shape, n):
    run(world, every_layout, x_shape, n)


def what_moves() -> None:
    mesh = line()
    tensors = operands(4, 8, 8, n=8)
    for way, y_way in {
        (Shard(0), EVERYWHERE, EVERYWHERE): Shard(0),
        (Shard(1), EVERYWHERE, EVERYWHERE): Shard(1),
        (EVERYWHERE, Shard(0), Shard(0)): Shard(2),
        (EVERYWHERE, EVERYWHERE, EVERYWHERE): EVERYWHERE,
    }.items():
        shared = [laid_out(each, mesh, at) for each, at in zip(tensors, way, strict=True)]
        with CommDebugMode() as moved:
            y = fusedops.gemm_sig_res(*shared, NUMBER)
            gradients = torch.autograd.grad(y, shared, torch.ones_like(y))
        assert moved.get_total_counts() == 0, way
        assert y.placements == (y_way,)
        assert gradients[1].placements == ((SUMMED,) if way[0].is_shard() else (way[1],))
    shared = [
        laid_out(each, mesh, at)
        for each, at in zip(tensors, (Shard(2), Shard(1), EVERYWHERE), strict=True)
    ]
    with CommDebugMode() as moved:
        fusedops.gemm_sig_res(*shared, NUMBER)
    assert moved.get_total_counts() > 0


@pytest.mark.supports(
    "rows of x or of the weight sharded: nothing moves; K sharded: gathered before the sigmoid"
)
@BOTH
def test_rows_and_columns_move_nothing_and_shards_of_k_are_gathered(run, world):
    run(world, what_moves)


def fewer_columns_than_processes() -> None:
    mesh = line()
    for n in (1, 3, 5):
        tensors = operands(6, 8, n=n)
        for way in ((EVERYWHERE, Shard(0), Shard(0)), (Shard(0), Shard(0), EVERYWHERE)):
            shared = [laid_out(each, mesh, at) for each, at in zip(tensors, way, strict=True)]
            check_like_plain(tensors, shared, NUMBER, NUMBER)


@pytest.mark.supports("fewer columns than processes")
@BOTH
def test_processes_may_have_nothing(run, world):
    run(world, fewer_columns_than_processes)


def two_dimensions() -> None:
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("dp", "tp"))
    tensors = operands(5, 6, 8, n=9)
    for ways in (
        ((Shard(0), EVERYWHERE), (EVERYWHERE, Shard(0)), (EVERYWHERE, Shard(0))),
        ((Shard(0), Shard(1)), (EVERYWHERE,) * 2, (EVERYWHERE,) * 2),
        ((Shard(0), Shard(0)), (EVERYWHERE,) * 2, (EVERYWHERE,) * 2),
        ((Shard(1), Shard(2)), (EVERYWHERE, Shard(1)), (EVERYWHERE,) * 2),
        ((EVERYWHERE,) * 2, (Shard(0), Shard(0)), (Shard(0), Shard(0))),
    ):
        shared = [laid_out(each, mesh, *at) for each, at in zip(tensors, ways, strict=True)]
        check_like_plain(tensors, shared, KEPT_Z, KEPT_Z)


@pytest.mark.supports("a mesh of two dimensions")
def test_a_mesh_of_two_dimensions(run):
    run(4, two_dimensions)


def kept_z_and_its_gradient() -> None:
    mesh = line()
    x, weight, bias = operands(4, 8, n=8)
    ops = torch.ops.fusedops
    y, z = ops.gemm_sig_res_forward(
        laid_out(x, mesh, EVERYWHERE).detach(),
        laid_out(weight, mesh, Shard(0)).detach(),
        laid_out(bias, mesh, Shard(0)).detach(),
        KEPT_Z,
        None,
        None,
    )
    assert y.placements == z.placements == (Shard(1),)
    close(full(z), torch.nn.functional.linear(x, weight, bias))
    wanted = (0.0, torch.tensor(KEPT_Z), 0, True, torch.float32, True, None)
    exact = ops.gemm_sig_res_backward(full(y), full(z), *wanted)
    for way, ways in {
        Shard(1): (Shard(1), Shard(0), SUMMED),
        Shard(0): (Shard(0), SUMMED, SUMMED),
        EVERYWHERE: (EVERYWHERE,) * 3,
        SUMMED: None,
    }.items():
        shared = (laid_out(full(each), mesh, way).detach() for each in (y, z))
        results = ops.gemm_sig_res_backward(*shared, *wanted)
        assert ways is None or tuple(each.placements[0] for each in results) == ways
        for mine, theirs in zip(results, exact, strict=True):
            close(full(mine), theirs)
    unwanted = ops.gemm_sig_res_backward(y, z, KEPT_Z, None, 0, True, None, False, None)
    assert [each.numel() for each in unwanted] == [32, 0, 0]


@BOTH
def test_the_operators_of_the_gradient(run, world):
    run(world, kept_z_and_its_gradient)


def a_number_of_each_process() -> None:
    mesh = line()
    tensors = operands(6, 8, n=8)
    for way in ((Shard(0), EVERYWHERE, EVERYWHERE), (EVERYWHERE, Shard(0), Shard(0))):
        scale = torch.tensor(0.7, requires_grad=True)
        shared_scale = torch.tensor(0.7, requires_grad=True)
        shared = [laid_out(each, mesh, at) for each, at in zip(tensors, way, strict=True)]
        check_like_plain(tensors, shared, scale, shared_scale)
        assert type(shared_scale.grad) is torch.Tensor


@pytest.mark.supports("a scale that is a plain 0-d tensor gets its whole gradient")
@BOTH
def test_a_scale_that_is_no_dtensor_gets_its_whole_gradient(run, world):
    run(world, a_number_of_each_process)


def other_ways_to_call() -> None:
    mesh = line()
    tensors = operands(4, 8, n=8, dtype=torch.float32)
    shared = [laid_out(each, mesh, at) for each, at in zip(
        tensors, (EVERYWHERE, Shard(0), Shard(0)), strict=True)]  # fmt: skip
    y = fusedops.gemm_sig_res(*tensors, NUMBER)
    close(full(fusedops.gemm_sig_res(*shared, NUMBER, backend="reference")), y)
    with torch.inference_mode():
        close(full(torch.ops.fusedops.gemm_sig_res(*shared, scale=NUMBER)), y)
    with torch.autocast("cpu", torch.bfloat16):
        lower = fusedops.gemm_sig_res(*shared, NUMBER)
        assert lower.dtype == torch.bfloat16
        close(full(lower), fusedops.gemm_sig_res(*tensors, NUMBER))
    refused = pytest.raises(
        NotImplementedError, match=r"gemm_sig_res\.out does not have a sharding"
    )
    with torch.no_grad(), refused:
        fusedops.gemm_sig_res(*shared, NUMBER, out=torch.empty_like(shared[0]))
    with pytest.raises(RuntimeError, match=r"mixed .* and DTensor"):
        fusedops.gemm_sig_res(tensors[0], *shared[1:], NUMBER)


@pytest.mark.supports("DTensor with backend=, inference_mode and autocast")
def test_other_ways_to_call(run):
    run(2, other_ways_to_call)


def refusals() -> None:
    tensors = operands(4, 8, n=8)
    shared = [laid_out(each, line(), EVERYWHERE) for each in tensors]
    with (
        torch.no_grad(),
        pytest.raises(NotImplementedError, match=r"gemm_sig_res\.out does not have a sharding"),
    ):
        fusedops.gemm_sig_res(*shared, NUMBER, out=torch.empty_like(shared[0]))
    with pytest.raises(RuntimeError, match=r"mixed .* and DTensor"):
        fusedops.gemm_sig_res(tensors[0], *shared[1:], NUMBER)


@pytest.mark.supports(
    "out= with DTensors, and DTensors mixed with plain tensors", answer="an error"
)
def test_out_and_a_mixture_with_plain_tensors_are_errors(run):
    run(2, refusals)


def second_derivatives() -> None:
    mesh = line()
    tensors = operands(4, 8, n=6)

    def of(operands: list[Any]) -> list[torch.Tensor]:
        y = fusedops.gemm_sig_res(*operands, NUMBER)
        first = torch.autograd.grad((y**2).sum(), operands, create_graph=True)
        sum((each**2).sum() for each in first).backward()
        return [full(each.grad) for each in operands]

    expected = of(leaves(tensors))
    for way in ((EVERYWHERE, Shard(0), Shard(0)), (Shard(0), EVERYWHERE, EVERYWHERE)):
        shared = [laid_out(each, mesh, at) for each, at in zip(tensors, way, strict=True)]
        close(of(shared), expected)


@pytest.mark.supports("second derivatives of DTensors")
@BOTH
def test_second_derivatives(run, world):
    run(world, second_derivatives)


def flops_of_all_processes() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    x, weight, _ = operands(4, 8, 16, n=6)
    shared = [laid_out(x, line(), Shard(1)), laid_out(weight, line(), EVERYWHERE)]
    with FlopCounterMode(display=False) as counter:
        y = fusedops.gemm_sig_res(*shared)
        assert counter.get_total_flops() == 2 * 32 * 16 * 6
        y.sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 32 * 16 * 6


@pytest.mark.supports("torch.utils.flop_counter over DTensors")
def test_flops_are_those_of_all_processes(run):
    run(2, flops_of_all_processes)
