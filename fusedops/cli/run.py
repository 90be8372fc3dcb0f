"""Run the operator here: which kernel, why, how exact, how fast beside plain PyTorch."""

from __future__ import annotations

import argparse

import torch

from fusedops import backends, explain, gemm_sig_res
from fusedops.bench.workload import SCALE, eager, operands
from fusedops.cli import arguments
from fusedops.numerics import error_over_bound
from fusedops.plans import describe
from fusedops.registry import Kernel, Problem, dtype_name, reasons_against
from fusedops.timing import Call, interleaved

KERNELBENCH = (1024, 8192, 8192)
FOR_A_CPU = (1024, 1024, 1024)

NEXT = """\
Try next:
  FUSEDOPS_BACKEND=reference python -m fusedops run     force a backend, for a whole process
  python -m fusedops explain --m 16 --n 4096 --k 4096 --arch sm_89   ask for another card
  python -m fusedops verify                             check that every kernel here is exact
  y = fusedops.gemm_sig_res(x, weight, bias, 2.0)       call it
  layer = fusedops.GemmSigRes.from_linear(linear, 2.0)  put it in a model"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape", type=arguments.shape, help="MxNxK (default: KernelBench's, or a CPU's share)"
    )
    parser.add_argument(
        "--dtype", type=arguments.dtype, help="default: float16 on a GPU, float32 on a CPU"
    )
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    parser.add_argument("--rounds", type=arguments.positive, default=25, help="timing rounds")


@torch.inference_mode()
def main(args: argparse.Namespace) -> int:
    device = arguments.device(args.device)
    on_gpu = device.type == "cuda"
    size = args.shape or (KERNELBENCH if on_gpu else FOR_A_CPU)
    dtype = args.dtype or (torch.float16 if on_gpu else torch.float32)
    x, weight, bias = operands(size, dtype, device)

    print(explain(x, weight, bias))
    problem = describe(x, weight, bias)
    able = [each for each in backends.kernels() if _runs(each, problem)]
    worst: dict[str, float] = {}
    for kernel in able:
        y = gemm_sig_res(x, weight, bias, SCALE, backend=kernel.name)
        over = error_over_bound(y, x, weight, bias, SCALE, kernel.accumulation(problem))
        worst[kernel.name] = float(over.max())

    candidates: dict[str, Call] = {
        "F.linear (no epilogue)": lambda: torch.nn.functional.linear(x, weight, bias),
        "plain PyTorch": lambda: eager(x, weight, bias),
    }
    for kernel in able:
        candidates[kernel.name] = _call(x, weight, bias, kernel.name)
    times = interleaved(candidates, device, rounds=args.rounds)

    m, _, k = size
    print(f"\ny = z + {SCALE:g} * sigmoid(z), x ({m}, {k}), {dtype_name(dtype)}, on {device}")
    print(f"{'':<28}{'time':>12}{'vs plain':>10}{'largest error / bound':>24}")
    for name, microseconds in times.items():
        ratio = times["plain PyTorch"] / microseconds
        error = f"{worst[name]:.3f}" if name in worst else ""
        print(f"{name:<28}{microseconds:>9.1f} us{ratio:>9.2f}x{error:>24}")
    print(f"\n{NEXT}")
    return 0 if all(error <= 1 for error in worst.values()) else 1


def _runs(kernel: Kernel, problem: Problem) -> bool:
    return not reasons_against(kernel, problem, backends.missing())


def _call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, kernel: str) -> Call:
    return lambda: gemm_sig_res(x, weight, bias, SCALE, backend=kernel)
