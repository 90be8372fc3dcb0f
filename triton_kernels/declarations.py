"""What each kernel declares: its accuracy, what it cannot take and why, and its configurations.

Nothing here imports Triton: a kernel's own file is imported when the kernel is prepared.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from fusedops.numerics import (
    FP32_ROUNDOFF,
    FP64_ROUNDOFF,
    TENSOR_CORE_CHAIN,
    TF32_ROUNDOFF,
)
from fusedops.registry import Accumulation, BackwardProblem, Kernel, Launch, Problem, dtype_name

from . import backward_config, candidates, space
from .config import (
    MOST_REDUCTION,
    MOST_TILES,
    Config,
    modelled_time,
    stores_by_tma,
    tensor_cores,
    uses_tf32,
    uses_three_tf32,
)

BACKEND = "triton"
OPERATOR = "gemm_sig_res"
HALF = (torch.float16, torch.bfloat16)
DTYPES = (*HALF, torch.float32, torch.float64)
TMA_ALIGNMENT = 16
MOST_TMA_STRIDE = 2**40
MOST_TMA_SIZE = 2**31 - 1 - 256
"""The largest size whose last block's coordinates still fit the 32 bits TMA counts in."""

LEAST_K_OF_THREE_TF32 = 256
"""Three truncated TF32 products of a float32 one miss it by at most 2^-19; from K = 256 on that is
half of what the bound allows the sum, whatever the data. Below, IEEE arithmetic is as fast."""


def accumulation(problem: Problem) -> Accumulation:
    if problem.dtype in HALF:
        return Accumulation(FP32_ROUNDOFF, TENSOR_CORE_CHAIN)
    if problem.dtype == torch.float64:
        return Accumulation(FP64_ROUNDOFF)
    return Accumulation(TF32_ROUNDOFF if uses_tf32(problem) else FP32_ROUNDOFF)


def backward_accumulation(problem: Problem) -> Accumulation:
    return Accumulation(FP64_ROUNDOFF if problem.dtype == torch.float64 else FP32_ROUNDOFF)


def tiled_why_not(problem: Problem) -> tuple[str, ...]:
    reasons = [*_common(problem), *_card(problem, (8, 0), "cp.async and bfloat16")]
    if problem.dtype not in DTYPES:
        reasons.append(_dtypes(problem, "float16, bfloat16, float32 and float64"))
    if problem.k > MOST_REDUCTION:
        reasons.append(
            f"K is {problem.k}, and the kernel counts it in 32 bits, up to {MOST_REDUCTION}: split "
            "K, or use torch.reference"
        )
    if not reasons and not candidates.tiled(problem):
        reasons += candidates.HALF[0].why_invalid(problem)
    return tuple(reasons)


def persistent_tma_why_not(problem: Problem) -> tuple[str, ...]:
    reasons = [*_common(problem), *_card(problem, (9, 0), "TMA")]
    if problem.dtype not in (*HALF, torch.float32):
        reasons.append(_dtypes(problem, "float16, bfloat16 and float32"))
    elif uses_three_tf32(problem):
        reasons += _three_tf32(problem)
    reasons += _tma(problem)
    if not reasons and not candidates.persistent_tma(problem):
        reasons += candidates.all_persistent_tma(problem)[-1].why_invalid(problem)
    return tuple(reasons)


def pingpong_why_not(problem: Problem) -> tuple[str, ...]:
    reasons = [*_common(problem), *_card(problem, (9, 0), "wgmma")]
    if problem.interpreted:
        reasons.append(
            "TRITON_INTERPRET is set, and Triton's interpreter does not run Gluon, which it is "
            "written in: use triton.persistent_tma"
        )
    elif problem.capability is not None and problem.capability[0] > 9:
        major, minor = problem.capability
        reasons.append(
            f"the card's compute capability is {major}.{minor}, and wgmma is 9.0's alone: use "
            "triton.persistent_tma"
        )
    if problem.dtype not in HALF:
        reasons.append(_dtypes(problem, "float16 and bfloat16"))
    reasons += _tma(problem)
    if not stores_by_tma(problem):
        reasons.append(
            f"N is {problem.n}, and it stores by TMA rows of a multiple of {TMA_ALIGNMENT} bytes: "
            "use triton.persistent_tma"
        )
    if not reasons and not candidates.pingpong(problem):
        reasons += candidates.PINGPONG[-1].why_invalid(problem)
    return tuple(reasons)


def _tma(problem: Problem) -> list[str]:
    """Reasons why TMA cannot read the operands."""
    reasons = []
    if problem.alignment < TMA_ALIGNMENT:
        reasons.append(
            f"an operand's address is a multiple of {problem.alignment} bytes only, and TMA needs "
            f"{TMA_ALIGNMENT}: clone the operand"
        )
    for name, size in (("M", problem.m), ("N", problem.n), ("K", problem.k)):
        if size > MOST_TMA_SIZE:
            reasons.append(
                f"{name} is {size}, and TMA's coordinates reach {MOST_TMA_SIZE}: split it, or use "
                "triton.tiled"
            )
    reasons += _layout("x", problem, problem.m, problem.x_strides)
    reasons += _layout("weight", problem, problem.n, problem.weight_strides)
    return reasons


def skinny_why_not(problem: Problem) -> tuple[str, ...]:
    reasons = [*_common(problem), *_card(problem, (8, 0), "cp.async and bfloat16")]
    if problem.dtype not in HALF:
        reasons.append(_dtypes(problem, "float16 and bfloat16"))
    if problem.m > candidates.MOST_ROWS:
        reasons.append(
            f"M is {problem.m}, and it holds all rows of x, up to {candidates.MOST_ROWS}: use "
            "triton.tiled"
        )
    if problem.k > MOST_REDUCTION:
        reasons.append(
            f"K is {problem.k}, and the kernel counts it in 32 bits, up to {MOST_REDUCTION}: split "
            "K, or use torch.reference"
        )
    for name, strides in (("x", problem.x_strides), ("weight", problem.weight_strides)):
        if strides[1] != 1 and problem.k > 1:
            reasons.append(
                f"{name}'s elements along K are {strides[1]} apart, and its warps divide rows that "
                "are adjacent along K: use triton.tiled"
            )
    if not reasons and not candidates.skinny(problem):
        reasons += candidates.SKINNY[-1].why_invalid(problem)
    return tuple(reasons)


def backward_why_not(problem: Problem) -> tuple[str, ...]:
    reasons = _card(problem, (8, 0), "bfloat16")
    if not isinstance(problem, BackwardProblem):
        return (f"the operator is {problem.op}, and it computes its gradient", *reasons)
    if problem.interpreted and problem.dtype == torch.bfloat16:
        reasons.append(
            "the gradient is bfloat16, and Triton's interpreter truncates its results: unset "
            "TRITON_INTERPRET, or use float16"
        )
    if problem.dtype not in DTYPES:
        reasons.append(_dtypes(problem, "float16, bfloat16, float32 and float64"))
    config = backward_config.configurations(problem)[0]
    strips, groups = config.share(problem)
    if strips * groups > MOST_TILES:
        reasons.append(
            f"N is {problem.n}, {strips} strips of {config.block_n} columns, and a grid holds "
            f"{MOST_TILES} programs: split it"
        )
    return tuple(reasons)


def _three_tf32(problem: Problem) -> list[str]:
    reasons = []
    if problem.capability is not None and problem.capability[0] != 9:
        reasons.append(
            "the operands are float32 at 'ieee' precision, and three TF32 products are faster than "
            "that on compute capability 9.0 alone: use triton.tiled"
        )
    if problem.k < LEAST_K_OF_THREE_TF32:
        reasons.append(
            f"K is {problem.k}, and the error of three TF32 products is within float32's from K = "
            f"{LEAST_K_OF_THREE_TF32} on: use triton.tiled"
        )
    return reasons


def _common(problem: Problem) -> list[str]:
    reasons = []
    if problem.interpreted and problem.dtype == torch.bfloat16:
        reasons.append(
            "the operands are bfloat16, and Triton's interpreter multiplies their bits as integers "
            "and truncates its results: unset TRITON_INTERPRET, or use float16"
        )
    if problem.op != OPERATOR:
        reasons.append(
            f"the operator is {problem.op}, and it computes {OPERATOR}: use that operator's kernels"
        )
    if problem.bias_dtype not in (None, problem.dtype, torch.float32):
        reasons.append(
            f"bias is {dtype_name(problem.bias_dtype)}, and it takes bias in x's dtype, "
            f"{dtype_name(problem.dtype)}, or float32: convert the bias"
        )
    return reasons


def _card(problem: Problem, least: tuple[int, int], needs: str) -> list[str]:
    if problem.interpreted:
        return []
    if problem.device != "cuda":
        return [
            f"the operands are on {problem.device}, and Triton compiles for CUDA cards: move them "
            "to one, or set TRITON_INTERPRET=1 before the first import for Triton's interpreter"
        ]
    if problem.capability is None or problem.capability < least:
        has = "unknown" if problem.capability is None else ".".join(map(str, problem.capability))
        return [
            f"the card's compute capability is {has}; for {needs} it must be at least "
            f"{least[0]}.{least[1]}: use another kernel"
        ]
    return []


def _dtypes(problem: Problem, taken: str) -> str:
    return f"the operands are {dtype_name(problem.dtype)}, and it takes {taken}: convert them"


def _layout(name: str, problem: Problem, rows: int, strides: tuple[int, int]) -> list[str]:
    """Reasons why TMA cannot read a matrix of rows of K elements."""
    reasons = []
    row, column = strides
    itemsize = problem.dtype.itemsize
    if column != 1 and problem.k > 1:
        reasons.append(
            f"{name}'s elements along K are {column} apart, and TMA needs them adjacent: use "
            f"{name}.contiguous()"
        )
    if rows == 1:
        return reasons
    if row * itemsize % TMA_ALIGNMENT:
        reasons.append(
            f"{name}'s rows are {row * itemsize} bytes apart, and TMA needs a multiple of "
            f"{TMA_ALIGNMENT}: pad K to a multiple of {TMA_ALIGNMENT // itemsize}"
        )
    if row < problem.k:
        reasons.append(
            f"{name}'s rows are {row} elements apart and hold {problem.k}, and TMA needs them "
            f"apart: use {name}.contiguous()"
        )
    if row * itemsize >= MOST_TMA_STRIDE:
        reasons.append(
            f"{name}'s rows are {row * itemsize} bytes apart, and TMA reaches below "
            f"{MOST_TMA_STRIDE}: use {name}.contiguous()"
        )
    return reasons


def _order(kernel: str) -> Callable[[Problem, Config], str]:
    """Tiles that the same instructions multiply, block by block, give a row the same bits."""

    def summation(problem: Problem, config: Config) -> str:
        unit = "fma"
        if tensor_cores(problem) or kernel == "persistent_tma":
            asynchronous = problem.capability is not None and problem.capability[0] == 9
            unit = "wgmma" if asynchronous and config.block_m >= 64 else "mma"
        parts = ""
        if kernel == "skinny":
            parts = f"x{config.num_warps}" + ("_x_left" if config.block_n < 16 else "")
        return f"triton_{kernel}_{unit}_k{config.block_k}{parts}"

    return summation


def _prepare(kernel: str) -> Callable[[Problem, Config], Launch]:
    def prepare(problem: Problem, config: Config) -> Launch:
        launch: Launch = import_module(f".{kernel}", __package__).launch(problem, config)
        return launch

    return prepare


def _ready(kernel: str) -> Callable[[Problem, Config], bool]:
    """Whether nothing is left to compile: a problem that shares the code has been run."""

    def ready(problem: Problem, config: Config) -> bool:
        if problem.interpreted:
            return True
        module = sys.modules.get(f"{__package__}.{kernel}")
        if module is None:
            return False
        loader: Any = sys.modules[f"{__package__}.launch"]
        found: bool = loader.is_loaded(module.specialization(problem, config), problem.capability)
        return found

    return ready


def _kernel(
    kernel: str,
    why_not: Callable[[Problem], tuple[str, ...]],
    configs: Callable[[Problem], tuple[Any, ...]],
    *,
    for_gradients: bool = False,
) -> Kernel:
    tuned_over, config_named = space.of(kernel)
    return Kernel(
        name=f"{BACKEND}.{kernel}",
        backend=BACKEND,
        accumulation=accumulation,
        why_not=why_not,
        configs=configs,
        prepare=_prepare(kernel),
        summation=_order(kernel),
        compiled_on_demand=True,
        ready=_ready(kernel),
        estimate=modelled_time,
        writes_z=for_gradients,
        reads_scale=for_gradients,
        space=tuned_over,
        config_named=config_named,
    )


TILED = _kernel("tiled", tiled_why_not, candidates.tiled, for_gradients=True)
PERSISTENT_TMA = _kernel(
    "persistent_tma", persistent_tma_why_not, candidates.persistent_tma, for_gradients=True
)
PINGPONG = _kernel("pingpong", pingpong_why_not, candidates.pingpong)
SKINNY = _kernel("skinny", skinny_why_not, candidates.skinny)
BACKWARD = Kernel(
    name=f"{BACKEND}.backward",
    backend=BACKEND,
    accumulation=backward_accumulation,
    why_not=backward_why_not,
    configs=backward_config.configurations,
    prepare=_prepare("backward"),
    compiled_on_demand=True,
    ready=_ready("backward"),
    reads_scale=True,
)
