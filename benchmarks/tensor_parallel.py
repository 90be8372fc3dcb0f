"""The layer on one GPU and on several: that they agree, and how long each takes.

    python benchmarks/tensor_parallel.py --json tensor_parallel.json

starts one process for each GPU, talking through NCCL; without two GPUs, two on the CPU, through
gloo, at sizes that say nothing of a card. Each candidate is a layer in forward, and in forward and
backward with gradients of x, weight and bias:

    one        the whole layer on every GPU: what one GPU takes
    columns    weight's rows shared out (ColwiseParallel), x everywhere, y left in columns; the
               gradient of x is summed over the GPUs
    sequence   the same, x shared out by rows and gathered first; its gradient's sums stay so

for fusedops.GemmSigRes ("fused") and for torch.nn.Linear with sigmoid, * and + ("eager").
A time is the median over rounds of the slowest GPU's, between CUDA events, with a cold L2, after
the GPUs waited for one another; candidates are interleaved in a random order.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

import fusedops

SCALE = 2.0
SHAPES = {"cuda": "8192x8192x8192,4096x14336x4096,1024x8192x8192", "cpu": "256x512x256"}
CHECKED = ((64, 96, 80), (37, 131, 96), (2, 9, 521, 264))
"""(..., N, K): even, uneven, and with leading dimensions."""
LAYOUTS = {"columns": (None, 0), "rows": (0, None), "sums": (-1, 1)}
"""The dimension of x, and of weight, that is shared out; None: every GPU has all of it."""
TIMEOUT = datetime.timedelta(seconds=60)
FLUSHED_BYTES, FLUSHES = 256 << 20, 8


class Eager(nn.Linear):
    """The layer as PyTorch's own operators."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        z = super().forward(input)
        return z + SCALE * torch.sigmoid(z)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--shapes", help="MxNxK,...")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    on_cards = torch.cuda.device_count() >= arguments.processes
    device = "cuda" if on_cards and dist.is_nccl_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        start = (device, Path(folder) / "store", arguments)
        mp.spawn(process, args=start, nprocs=arguments.processes)


def process(rank: int, device: str, store: Path, arguments: argparse.Namespace) -> None:
    """One of the processes."""
    world = arguments.processes
    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=world,
        timeout=TIMEOUT,
        device_id=torch.device("cuda", rank) if device == "cuda" else None,
    )
    mesh = init_device_mesh(device, (world,))
    say = print if rank == 0 else lambda *_, **__: None
    result: dict[str, Any] = origin(device, world) | {"checks": [], "times": []}
    for dtype in (torch.float32, torch.bfloat16):
        for *leading, n, k in CHECKED:
            for layout in LAYOUTS:
                result["checks"].append(checked(mesh, dtype, (*leading, k), n, layout))
                say("{dtype} {x} N={n} {layout}: {verdict}".format(**result["checks"][-1]))
    for shape in (arguments.shapes or SHAPES[device]).split(","):
        m, n, k = (int(size) for size in shape.split("x"))
        result["times"].append(timed(mesh, m, n, k, arguments.rounds))
        say(table(result["times"][-1]), flush=True)
    if rank == 0 and arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    wrong = [each for each in result["checks"] if each["verdict"] != "right"]
    say(f"{len(wrong)} of {len(result['checks'])} checks failed", flush=True)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(1 if wrong else 0)  # gloo's threads may abort an ordinary exit


def origin(device: str, world: int) -> dict[str, Any]:
    """What the numbers were measured on."""
    card = device == "cuda"
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if card else None
    return {
        "device": torch.cuda.get_device_name() if card else platform.processor() or "cpu",
        "devices": world,
        "torch": torch.__version__,
        "nccl": nccl,
        "nvls": os.environ.get("NCCL_NVLS_ENABLE"),
        "date": datetime.date.today().isoformat(),
        "scale": SCALE,
    }


def checked(
    mesh: DeviceMesh, dtype: torch.dtype, x_shape: tuple[int, ...], n: int, layout: str
) -> dict[str, Any]:
    """Hold y and the gradients to those of float64, and their errors to those of one device."""
    torch.manual_seed(0)
    make = partial(torch.randn, device=mesh.device_type, dtype=dtype)
    x, bias = make(x_shape), make(n)
    weight = make(n, x_shape[-1]) / x_shape[-1] ** 0.5
    grad = make(*x_shape[:-1], n)
    x_dim, weight_dim = LAYOUTS[layout]
    x_dim = x.dim() - 1 if x_dim == -1 else x_dim
    placements = [
        Replicate() if dim is None else Shard(dim)
        for dim in (x_dim, weight_dim, 0 if weight_dim == 0 else None)
    ]
    shared = [
        distribute_tensor(tensor, mesh, [placement])
        for tensor, placement in zip((x, weight, bias), placements, strict=True)
    ]
    exact = gradients(
        lambda x, weight, bias: reference(x, weight, bias, SCALE),
        [each.double() for each in (x, weight, bias)],
        grad.double(),
    )
    fused = partial(fusedops.gemm_sig_res, scale=SCALE)
    alone = gradients(fused, [x, weight, bias], grad)
    together = gradients(fused, shared, distribute_tensor(grad, mesh, [Replicate()]))
    errors = {}
    for name, truth, one, several in zip(
        ("y", "x", "weight", "bias"), exact, alone, together, strict=True
    ):
        errors[name] = [relative_error(one, truth), relative_error(several, truth)]
    most = torch.finfo(dtype).eps
    right = all(several <= max(2 * one, most) for one, several in errors.values())
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "x": "x".join(map(str, x_shape)),
        "n": n,
        "layout": layout,
        "y": str(together[0].placements),
        "errors, one device's and several's": errors,
        "verdict": "right" if right else f"WRONG {errors}",
    }


def reference(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float
) -> torch.Tensor:
    z = nn.functional.linear(x, weight, bias)
    return z + scale * torch.sigmoid(z)


def gradients(
    op: Callable[..., torch.Tensor], operands: list[torch.Tensor], grad: torch.Tensor
) -> list[Any]:
    """y, and the gradients of x, weight and bias."""
    leaves = [each.detach().requires_grad_() for each in operands]
    y = op(*leaves)
    if isinstance(y, DTensor) and isinstance(grad, DTensor):
        grad = grad.redistribute(placements=y.placements)
    y.backward(grad)
    return [y.detach(), *(leaf.grad for leaf in leaves)]


def relative_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    whole = value.full_tensor() if isinstance(value, DTensor) else value
    return float((whole.double() - truth).norm() / truth.norm())


def timed(mesh: DeviceMesh, m: int, n: int, k: int, rounds: int) -> dict[str, Any]:
    """The median time of each candidate, in microseconds."""
    world = mesh.size()
    device, dtype = mesh.device_type, torch.bfloat16
    torch.manual_seed(0)
    x = torch.randn(m, k, device=device, dtype=dtype)
    ours = x.chunk(world)[mesh.get_local_rank()].clone()
    grad = torch.randn(m, n, device=device, dtype=dtype)
    columns = grad.chunk(world, dim=1)[mesh.get_local_rank()].contiguous()
    calls: dict[str, Callable[[], object]] = {}
    for name, layer in (
        ("fused", partial(fusedops.GemmSigRes, k, n, SCALE)),
        ("eager", partial(Eager, k, n)),
    ):
        for placing, style, given, grad_given in (
            ("one", None, x, grad),
            ("columns", ColwiseParallel(), x, columns),
            ("sequence", ColwiseParallel(input_layouts=Shard(0)), ours, columns),
        ):
            module = layer(device=device, dtype=dtype)
            if style is not None:
                parallelize_module(module, mesh, style)
            calls[f"{name} {placing} forward"] = partial(forward, module, given)
            calls[f"{name} {placing} both"] = partial(
                both, module, given.clone().requires_grad_(), grad_given
            )
    local = fusedops.explain(x, torch.empty(n // world, k, device=device, dtype=dtype))
    return {
        "m": m,
        "n": n,
        "k": k,
        "dtype": "bfloat16",
        "rounds": rounds,
        "kernels": [str(fusedops.explain(x, grad.new_empty(n, k)).kernel), str(local.kernel)],
        "microseconds": interleaved(calls, device, rounds),
    }


@torch.no_grad()
def forward(module: nn.Module, x: torch.Tensor) -> None:
    module(x)


def both(module: nn.Module, x: torch.Tensor, grad: torch.Tensor) -> None:
    x.grad = None
    module.zero_grad(set_to_none=True)
    module(x).backward(grad)
    for each in (x, *module.parameters()):
        wait(each.grad)


def wait(gradient: torch.Tensor | None) -> None:
    """Until a sum over the GPUs has arrived: autograd only asks for it."""
    if isinstance(gradient, DTensor):
        gradient = gradient.to_local()
    if isinstance(gradient, AsyncCollectiveTensor):
        gradient.wait()


def interleaved(
    calls: dict[str, Callable[[], object]], device: str, rounds: int
) -> dict[str, float]:
    """Every process makes the same calls in the same order; the slowest counts."""
    once = cuda_timer() if device == "cuda" else cpu_timer
    for call in calls.values():
        for _ in range(3):
            call()
    shuffle, names = random.Random(0).shuffle, list(calls)
    mine: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        shuffle(names)
        for name in names:
            mine[name].append(once(calls[name]))
    times = torch.tensor([mine[name] for name in calls], device=device)
    dist.all_reduce(times, dist.ReduceOp.MAX)
    medians = [statistics.median(row) for row in times.tolist()]
    return dict(zip(calls, medians, strict=True))


def cuda_timer() -> Callable[[Callable[[], object]], float]:
    flush = torch.empty(FLUSHED_BYTES, dtype=torch.int8, device="cuda")
    meeting = torch.zeros(1, device="cuda")

    def once(call: Callable[[], object]) -> float:
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        for _ in range(FLUSHES):  # so long that the host has queued the call before they end
            flush.zero_()
        dist.all_reduce(meeting)
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) * 1e3

    return once


def cpu_timer(call: Callable[[], object]) -> float:
    dist.barrier()
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e6


def table(row: dict[str, Any]) -> str:
    """One shape's times, and how many times as fast as on one device."""
    times = row["microseconds"]
    lines = [f"\n{row['m']}x{row['n']}x{row['k']} bfloat16, microseconds; {row['kernels']}"]
    lines.append(f"{'':18}{'one':>10}{'columns':>10}{'':>8}{'sequence':>10}")
    for name in ("fused", "eager"):
        for passes in ("forward", "both"):
            one, *others = (
                times[f"{name} {placing} {passes}"] for placing in ("one", "columns", "sequence")
            )
            cells = "".join(f"{each:10.0f}{one / each:7.2f}x" for each in others)
            lines.append(f"{name + ' ' + passes:18}{one:10.0f}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
