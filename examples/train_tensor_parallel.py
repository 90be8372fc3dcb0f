"""Train a small network with the layer under tensor parallelism and FSDP2, beside plain PyTorch.

    python examples/train_tensor_parallel.py                       # starts its own processes
    torchrun --nproc-per-node 4 examples/train_tensor_parallel.py

Every process trains the network of PyTorch's own layers, whole. Together they train its copy, in
which `fusedops.GemmSigRes` stands for the linear layer and its epilogue: the columns of the wide
layers are shared out over pairs of processes, what that leaves of every parameter over the pairs,
and so is the batch. Both see the same data, so both must have the same loss at every step. NCCL
where every process has a GPU, else gloo on the CPU.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import fusedops

FEATURES, HIDDEN, BLOCKS, BATCH, SCALE = 64, 256, 2, 64, 2.0
LEARNING_RATE = 3e-3
TOLERANCE = 1e-3
"""Of the losses' relative difference: sums are taken in another order, and steps add that up."""


class LinearSigmoidResidual(nn.Linear):
    """z + scale * sigmoid(z), in PyTorch's own operators."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        z = super().forward(input)
        return z + SCALE * torch.sigmoid(z)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(FEATURES)
        self.up: nn.Linear = LinearSigmoidResidual(FEATURES, HIDDEN)
        self.down = nn.Linear(HIDDEN, FEATURES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.up(self.norm(x)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--processes", type=int, default=torch.cuda.device_count() // 2 * 2 or 4)
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        train(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), "env://", arguments.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "store").as_uri()
        world = arguments.processes
        mp.spawn(train, args=(world, meeting, arguments.steps), nprocs=world)


def train(rank: int, world: int, meeting: str, steps: int) -> None:
    """One of the processes."""
    kind = "cuda" if torch.cuda.device_count() >= world else "cpu"
    device = torch.device(kind, rank if kind == "cuda" else 0)
    if kind == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo", init_method=meeting, rank=rank, world_size=world
    )
    mesh = init_device_mesh(kind, (world // 2, 2), mesh_dim_names=("data", "tensor"))

    torch.manual_seed(0)
    plain = nn.Sequential(*(Block() for _ in range(BLOCKS))).to(device)
    parallel = copy.deepcopy(plain)
    for block in parallel:
        block.up = fusedops.GemmSigRes.from_linear(block.up, SCALE)
        layers = {"up": ColwiseParallel(), "down": RowwiseParallel()}
        parallelize_module(block, mesh["tensor"], layers)
        fully_shard(block, mesh=mesh["data"])
    fully_shard(parallel, mesh=mesh["data"])
    networks = (plain, parallel)
    optimizers = [torch.optim.AdamW(each.parameters(), LEARNING_RATE) for each in networks]

    teacher = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, FEATURES))
    mine = slice(mesh["data"].get_local_rank(), None, world // 2)
    worst = 0.0
    for step in range(steps):
        x = torch.randn(BATCH, FEATURES, generator=torch.Generator().manual_seed(step))
        target = teacher(x).detach().to(device)
        x = x.to(device)
        loss = one_step(plain, optimizers[0], x, target)
        shared_loss = one_step(parallel, optimizers[1], x[mine], target[mine])
        dist.all_reduce(shared_loss)
        shared_loss /= world
        worst = max(worst, float((shared_loss - loss).abs() / loss))
        if rank == 0 and (step % 10 == 0 or step == steps - 1):
            print(f"step {step:4d}  plain {loss:.6f}  parallel {shared_loss:.6f}", flush=True)
    if rank == 0:
        weight = parallel[0].up.weight
        print(f"{world} processes on {kind}, {weight.device_mesh}, weight {weight.placements}")
        print(f"largest relative difference of the losses: {worst:.1e}", flush=True)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0 if worst <= TOLERANCE else 1)  # gloo's threads may abort an ordinary exit


def one_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    loss = nn.functional.mse_loss(network(x), target)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


if __name__ == "__main__":
    main()
