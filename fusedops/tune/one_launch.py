"""``python -m fusedops.tune.one_launch``: one launch of one kernel, for a profiler to look at.

The profiler starts when it is told to (``ncu --profile-from-start off``): what compiles, fills the
operands and launches for the first time goes before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fusedops import backends
from fusedops.bench.peaks import TF32
from fusedops.cli import arguments
from fusedops.registry import Kernel, Problem
from fusedops.tune import work
from fusedops.tune.named import named
from fusedops.tune.trial import Shape


def command(shape: Shape, dtype: str, kernel: str, config: str) -> list[str]:
    """What ``main`` is to be given."""
    sizes = "x".join(map(str, shape))
    return ["--shape", sizes, "--dtype", dtype, "--kernel", kernel, f"--config={config}"]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fusedops.tune.one_launch")
    parser.add_argument("--shape", type=arguments.shape, required=True)
    parser.add_argument("--dtype", required=True, help="as in a table")
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--config", required=True, help="its name; empty where there is only one")
    args = parser.parse_args(words)
    profile(prepared(args.shape, args.dtype, args.kernel, args.config))


def profile(launch: Callable[[], object]) -> None:
    """Launch once unseen, once seen."""
    launch()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    launch()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


def prepared(
    shape: Shape, dtype: str, kernel: str, config: str, device: str = "cuda"
) -> Callable[[], object]:
    """The launch over operands of shape (m, n, k), of which the gradient's kernels leave k out.

    Sets PyTorch's switches as the arithmetic and the kernel need them. Raises LookupError for what
    does not exist, ValueError for what cannot run.
    """
    torch.backends.cuda.matmul.fp32_precision = TF32 if dtype == TF32 else "ieee"
    element = torch.float32 if dtype == TF32 else arguments.dtype(dtype)
    where = torch.device(device)
    backward = {each.name: each for each in backends.backward_kernels()}
    if kernel in backward:
        found: Kernel = backward[kernel]
        make: type[work.Called | work.Backward] = work.Backward
    else:
        found = {each.name: each for each in backends.kernels()}[kernel]
        make = work.Called
    done = make(shape, element, where)
    if element is torch.float16 and found.reasons(done.problem):  # it may add in float16
        torch.backends.cuda.matmul.allow_fp16_accumulation = True
        done = make(shape, element, where)
    launch = found.prepare(done.problem, configuration(found, done.problem, config))
    return done.call(launch, found.accumulation(done.problem))


def configuration(kernel: Kernel, problem: Problem, config: str) -> Any:
    """The kernel's configuration of that name; "" is the only one of a kernel that has no choice.

    Raises LookupError, or ValueError where the kernel cannot run the problem.
    """
    if reasons := kernel.reasons(problem):
        raise ValueError(f"{kernel.name} cannot run it: {'; '.join(reasons)}")
    return named(kernel, problem, config or str(None))


if __name__ == "__main__":
    main()
