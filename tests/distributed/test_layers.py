"""The layer under tensor and sequence parallelism and FSDP2, trained beside plain PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.utils.checkpoint import checkpoint

import fusedops

BOTH = pytest.mark.parametrize("world", (2, 4))
FEATURES, HIDDEN, UNEVEN, SCALE = 8, 16, 11, 1.5
COLUMNS_THEN_ROWS = {"up": ColwiseParallel(use_local_output=False), "down": RowwiseParallel()}


class LinearSigmoidResidual(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        z = super().forward(input)
        return z + SCALE * torch.sigmoid(z)


class Network(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(FEATURES)
        self.up: nn.Linear = LinearSigmoidResidual(FEATURES, hidden)
        self.down = nn.Linear(hidden, FEATURES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.up(self.norm(x)))


def networks(hidden: int) -> tuple[Network, Network]:
    """One of PyTorch's own layers, and its copy with the layer."""
    plain = Network(hidden)
    ours = copy.deepcopy(plain)
    ours.up = fusedops.GemmSigRes.from_linear(ours.up, SCALE)
    return plain, ours


def full(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def train(network: Any, x: torch.Tensor, target: torch.Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
    for _ in range(steps):
        ((network(x) - target) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def train_both(plain: Network, ours: Any, *shape: int, share: slice = slice(None)) -> None:
    """On the same batch, of which ours sees a share; afterwards every parameter is the same."""
    x, target = torch.randn(*shape, FEATURES), torch.randn(*shape, FEATURES)
    train(plain, x, target)
    train(ours, x[share], target[share])
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(full(mine.detach()), theirs.detach(), atol=2e-4, rtol=2e-4)


def line() -> Any:
    return init_device_mesh("cpu", (dist.get_world_size(),))


def tensor_parallel(hidden: int) -> None:
    plain, ours = networks(hidden)
    parallelize_module(ours, line(), COLUMNS_THEN_ROWS)
    assert ours.up.weight.placements == (Shard(0),)
    train_both(plain, ours, 2, 5)


@pytest.mark.supports(
    "ColwiseParallel on GemmSigRes, then RowwiseParallel: training as plain PyTorch"
)
@BOTH
@pytest.mark.parametrize("hidden", (HIDDEN, UNEVEN))
def test_columns_then_rows(run, world, hidden):
    run(world, tensor_parallel, hidden)


def columns_gathered() -> None:
    plain, ours = networks(UNEVEN)
    parallelize_module(ours, line(), {"up": ColwiseParallel(output_layouts=Replicate())})
    train_both(plain, ours, 6)


@BOTH
def test_columns_gathered(run, world):
    run(world, columns_gathered)


def rowwise() -> None:
    plain, ours = networks(HIDDEN)
    parallelize_module(ours, line(), {"up": RowwiseParallel(input_layouts=Replicate())})
    assert ours.up.weight.placements == (Shard(1),)
    train_both(plain, ours, 6)


@pytest.mark.supports("RowwiseParallel on GemmSigRes: right, though its operands are gathered")
@BOTH
def test_the_layer_itself_by_rows_is_right_since_its_operands_are_gathered(run, world):
    run(world, rowwise)


def sequence_parallel() -> None:
    plain, ours = networks(HIDDEN)
    mesh = line()
    layers = {
        "norm": SequenceParallel(),
        "up": ColwiseParallel(input_layouts=Shard(1)),
        "down": RowwiseParallel(output_layouts=Shard(1), use_local_output=False),
    }
    parallelize_module(ours, mesh, layers)
    x, target = torch.randn(2, 8, FEATURES), torch.randn(2, 8, FEATURES)
    train(plain, x, target)
    train(ours, *(distribute_tensor(each, mesh, [Shard(1)]) for each in (x, target)))
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(full(mine.detach()), theirs.detach(), atol=2e-4, rtol=2e-4)


@pytest.mark.supports("sequence-parallel inputs")
@BOTH
def test_a_sharded_sequence(run, world):
    run(world, sequence_parallel)


def data_parallel() -> None:
    plain, ours = networks(UNEVEN)
    fully_shard(ours.up, mesh=line())
    fully_shard(ours, mesh=line())
    train_both(plain, ours, 8, share=slice(dist.get_rank(), None, dist.get_world_size()))


@pytest.mark.supports("FSDP2 fully_shard")
@BOTH
def test_fully_shard(run, world):
    run(world, data_parallel)


def mixed_precision() -> None:
    _, ours = networks(UNEVEN)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    fully_shard(ours.up, mesh=line(), mp_policy=policy)
    y = ours.up(torch.randn(4, FEATURES))
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert ours.up.weight.grad is not None and ours.up.weight.grad.dtype == torch.float32


@pytest.mark.supports("FSDP2 with mixed precision")
def test_fully_shard_with_mixed_precision(run):
    run(2, mixed_precision)


def both_at_once() -> None:
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("dp", "tp"))
    plain, ours = networks(UNEVEN)
    parallelize_module(ours, mesh["tp"], COLUMNS_THEN_ROWS)
    fully_shard(ours.up, mesh=mesh["dp"])
    fully_shard(ours, mesh=mesh["dp"])
    train_both(plain, ours, 8, share=slice(mesh.get_local_rank("dp"), None, 2))
    state = get_model_state_dict(ours.up, options=StateDictOptions(full_state_dict=True))
    if dist.get_rank() == 0:
        nn.Linear(FEATURES, UNEVEN).load_state_dict(state)


@pytest.mark.supports("tensor parallelism and FSDP2 on one mesh; the whole state fits nn.Linear")
@BOTH
def test_tensor_parallelism_and_fully_shard(run, world):
    run(world, both_at_once)


def compiled(backend: str) -> None:
    plain, ours = networks(HIDDEN)
    parallelize_module(ours, line(), {"up": ColwiseParallel(), "down": RowwiseParallel()})
    train_both(plain, torch.compile(ours, backend=backend, fullgraph=True), 6)


@pytest.mark.supports("tensor parallelism under torch.compile, fullgraph")
@pytest.mark.parametrize("backend", ("aot_eager", "inductor"))
def test_compiled_whole(run, backend):
    run(2, compiled, backend)


def compiled_for_any_batch() -> None:
    plain, ours = networks(HIDDEN)
    parallelize_module(ours, line(), {"up": ColwiseParallel(), "down": RowwiseParallel()})
    counter = CompileCounterWithBackend("aot_eager")
    network = torch.compile(ours, backend=counter, fullgraph=True, dynamic=True)
    frames = []
    for rows in (6, 9, 12):
        x = torch.randn(rows, FEATURES)
        torch.testing.assert_close(network(x), plain(x))
        frames.append(counter.frame_count)
    assert frames == frames[:1] * 3


@pytest.mark.supports("tensor parallelism compiled once for any batch size")
def test_compiled_once_for_any_batch(run):
    run(2, compiled_for_any_batch)


def compiled_and_fully_sharded() -> None:
    plain, ours = networks(UNEVEN)
    fully_shard(ours.up, mesh=line())
    fully_shard(ours, mesh=line())
    share = slice(dist.get_rank(), None, dist.get_world_size())
    train_both(plain, torch.compile(ours, backend="aot_eager"), 8, share=share)


@pytest.mark.supports("FSDP2 under torch.compile")
def test_compiled_and_fully_sharded(run):
    run(2, compiled_and_fully_sharded)


def recomputed() -> None:
    plain, ours = networks(UNEVEN)
    parallelize_module(ours, line(), COLUMNS_THEN_ROWS)
    forward = ours.forward
    ours.forward = lambda x: checkpoint(forward, x, use_reentrant=False)  # type: ignore[method-assign]
    train_both(plain, ours, 6)


@pytest.mark.supports("tensor parallelism with activation checkpointing")
def test_activations_recomputed(run):
    run(2, recomputed)
