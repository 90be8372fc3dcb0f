"""KernelBench level 2, problem 70: Gemm_Sigmoid_Scaling_ResidualAdd, by KernelBench's own rules.

`Model` is the problem, `ModelNew` the answer. Both are made from one seed, so that they share their
weights. Five trials on fresh `torch.rand` inputs must agree to 1e-4 in float32 and 1e-2 in float16,
absolute and relative. Then each model is timed alone: 3 warm-ups, 100 trials, CUDA events, 256 MB
written before each trial so that the L2 is cold, and the mean.

    python examples/kernelbench_level2_70.py --json kernelbench.json

On a CPU the sizes are divided by 16 and the trials by 10: the numbers then say nothing of a card.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

import fusedops

BATCH_SIZE, INPUT_SIZE, HIDDEN_SIZE, SCALING_FACTOR = 1024, 8192, 8192, 2.0
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2}
CORRECTNESS_TRIALS, WARMUPS, TRIALS = 5, 3, 100
THRASHED_BYTES = 256 << 20
SMALLER_ON_A_CPU, FEWER_ON_A_CPU = 16, 10
SEED = 42


class Model(nn.Module):
    """The problem: a linear layer, and the sigmoid of its result, scaled, added to it."""

    def __init__(self, input_size: int, hidden_size: int, scaling_factor: float) -> None:
        super().__init__()
        self.gemm = nn.Linear(input_size, hidden_size)
        self.scaling_factor = scaling_factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.gemm(x)
        return z + self.scaling_factor * torch.sigmoid(z)


class ModelNew(nn.Module):
    """The answer: one kernel. The parameters keep the names of the problem's."""

    def __init__(self, input_size: int, hidden_size: int, scaling_factor: float) -> None:
        super().__init__()
        self.gemm = fusedops.GemmSigRes(input_size, hidden_size, scale=scaling_factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gemm(x)


def get_inputs() -> list[torch.Tensor]:
    """KernelBench's own name for what `forward` takes."""
    return [torch.rand(BATCH_SIZE, INPUT_SIZE)]


def get_init_inputs() -> list[int | float]:
    """KernelBench's own name for what both models are made of."""
    return [INPUT_SIZE, HIDDEN_SIZE, SCALING_FACTOR]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes, trials = (BATCH_SIZE, INPUT_SIZE, HIDDEN_SIZE), TRIALS
    if device.type == "cpu":
        sizes = tuple(size // SMALLER_ON_A_CPU for size in sizes)
        trials //= FEWER_ON_A_CPU
        print(f"no CUDA card: batch, input and hidden size {sizes}, {trials} trials")
    results = {
        str(dtype).removeprefix("torch."): precision(dtype, sizes, device, trials)
        for dtype in TOLERANCES
    }
    if options.json:
        name = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU"
        report = {
            "date": datetime.date.today().isoformat(),
            "device": name,
            "torch": torch.__version__,
            "sizes": sizes,
            "trials": trials,
            "results": results,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


@torch.no_grad()
def precision(
    dtype: torch.dtype, sizes: tuple[int, ...], device: torch.device, trials: int
) -> dict[str, object]:
    """The error and the times at one precision; raises where the answer is wrong."""
    batch_size, input_size, hidden_size = sizes
    problem, answer = (
        seeded(made, input_size, hidden_size).to(device, dtype) for made in (Model, ModelNew)
    )

    def inputs() -> torch.Tensor:
        return torch.rand(batch_size, input_size, device=device).to(dtype)

    worst = 0.0
    for trial in range(CORRECTNESS_TRIALS):
        torch.manual_seed(SEED + trial)
        x = inputs()
        wanted, got = problem(x), answer(x)
        worst = max(worst, float((wanted - got).abs().max()))
        torch.testing.assert_close(got, wanted, atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])
    x = inputs()
    print(f"{dtype}: correct in {CORRECTNESS_TRIALS} trials, largest difference {worst:.1e}")
    candidates = {"eager": problem, "torch.compile": torch.compile(problem), "fusedops": answer}
    times = {
        name: round(mean_milliseconds(partial(model, x), device, trials), 4)
        for name, model in candidates.items()
    }
    for name, time_ in times.items():
        print(f"  {name:<14}{time_:9.4f} ms {time_ / times['fusedops']:9.3f} times fusedops")
    kernel = fusedops.explain(x, answer.gemm.weight, answer.gemm.bias).kernel
    return {"kernel": kernel, "largest_difference": worst, "milliseconds": times}


def seeded(made: type[nn.Module], input_size: int, hidden_size: int) -> nn.Module:
    torch.manual_seed(SEED)
    return made(input_size, hidden_size, SCALING_FACTOR)


def mean_milliseconds(call: Callable[[], object], device: torch.device, trials: int) -> float:
    for _ in range(WARMUPS):
        call()
    if device.type == "cpu":
        return statistics.fmean(cpu_milliseconds(call) for _ in range(trials))
    thrashed = torch.empty(THRASHED_BYTES, dtype=torch.int8, device=device)
    times = []
    for _ in range(trials):
        torch.cuda.synchronize(device)
        thrashed.fill_(1)
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        stop.record()
        torch.cuda.synchronize(device)
        times.append(start.elapsed_time(stop))
    return statistics.fmean(times)


def cpu_milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    main()
