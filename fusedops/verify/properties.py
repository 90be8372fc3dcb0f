"""What is true of every kernel, and of the operator, on one case.

A check waits for the device once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fusedops import backends
from fusedops.functional import gemm_sig_res
from fusedops.numerics import expected_and_bound, fraction_of_bound
from fusedops.override import asked, batch_invariant, request, use_backend
from fusedops.plans import choose, describe
from fusedops.registry import Accumulation, Kernel, NoKernelError, Problem, dtype_name
from fusedops.settings import triton_interpreter
from fusedops.verify.case import Case
from fusedops.verify.failure import DeviceLost, Failure
from fusedops.verify.operands import GUARD, Operands, Output, as_integers, build

_EXACT = Accumulation(0.0)


def configuration(kernel: Kernel, case: Case, problem: Problem) -> Any:
    """The configuration the case asks for: 0 is the preferred one, others count by their names."""
    configs = kernel.configs(problem)
    if case.config == 0:
        return configs[0]
    return sorted(configs, key=str)[(case.config - 1) % len(configs)]


def check_kernel(kernel: Kernel, case: Case, device: torch.device, guard: int = GUARD) -> float:
    """Launch the kernel on the case; raise Failure, or return the worst error over the bound.

    The kernel must accept the problem. It must write every element, meet the bound, return the
    oracle's special values, give the same bits when launched again, and leave its inputs and the
    surroundings of its output alone. NaNs around the inputs make any read outside them visible.
    Batch invariance, which would copy the case's layout away, is off; the operator's is not.
    """
    with telling(kernel.name, case), precision(case), batch_invariant(False):
        operands = build(case, device, guard)
        problem = describe(operands.x, operands.weight, operands.bias)
        if problem != case.problem(device):
            raise Failure(kernel.name, case, f"described as\n  {problem}\n  {case.problem(device)}")
        if reasons := kernel.why_not(problem):
            raise Failure(kernel.name, case, f"it refuses the case: {'; '.join(reasons)}")
        launch = kernel.prepare(problem, configuration(kernel, case, problem))
        outputs = Output.poisoned(case, device, guard), Output.poisoned(case, device, guard)
        for output in outputs:
            launch(operands.x, operands.weight, operands.bias, case.scale, output.tensor)
        first, second = outputs
        accumulation = _exact_if_possible(case, kernel.accumulation(problem))
        fraction = _fraction(case, operands, first.tensor, accumulation)
        repeated = (as_integers(first.tensor) == as_integers(second.tensor)).all()
        broken = {
            "it wrote outside its output": ~(first.canaries_intact() & second.canaries_intact()),
            "it left elements of its output unwritten": first.unwritten().any(),
            "it changed an input": ~operands.unchanged(),
            "two launches gave different bits": ~repeated,
        }
        return _judge(kernel.name, case, operands, first.tensor, fraction, broken)


def check_op(case: Case, backend: str, device: torch.device) -> float | None:
    """Call the operator; raise Failure, or return the worst error over the bound.

    None where the backend refuses, which "auto" may not. Covers what lies above the kernels: empty
    problems, layouts that are copied, and the result's shape, dtype and strides.
    """
    with telling(backend, case), precision(case):
        operands = build(case, device)
        x, weight, bias = operands.x, operands.weight, operands.bias
        accumulation = Accumulation(2.0**-24 if case.dtype != "float64" else 2.0**-53)
        try:
            if 0 not in (case.m, case.n, case.k):
                problem = describe(x, weight, bias)
                chosen = choose(problem, request(*asked(backend)))
                accumulation = chosen.kernel.accumulation(problem)
            y = gemm_sig_res(x, weight, bias, case.scale, backend=backend)
        except NoKernelError as error:
            if backend == "auto":
                raise Failure(backend, case, f"auto refused: {error}") from error
            return None
        with use_backend(backend):
            again = torch.ops.fusedops.gemm_sig_res(x, weight, bias, case.scale)
        shape = (*case.rows_of_x, case.n)
        if y.shape != shape or y.dtype != case.torch_dtype or not y.is_contiguous():
            raise Failure(
                backend,
                case,
                f"the result is {tuple(y.shape)} {dtype_name(y.dtype)} strides {y.stride()}, "
                f"not a contiguous {shape} {case.dtype}",
            )
        broken = {
            "it changed an input": ~operands.unchanged(),
            "use_backend() gave other bits than backend=": ~(
                as_integers(y) == as_integers(again)
            ).all(),
        }
        fraction = _fraction(case, operands, y, accumulation)
        return _judge(backend, case, operands, y, fraction, broken)


def available_backends(device: torch.device) -> tuple[str, ...]:
    """The backends that this machine has for the device, "auto" first."""
    elsewhere = {"cpu"} if device.type == "cuda" else {"cuda"}
    if device.type == "cpu" and not triton_interpreter():
        elsewhere.add("triton")
    names = dict.fromkeys(kernel.backend for kernel in backends.kernels())
    present = [name for name in names if name not in backends.missing()]
    return ("auto", *(name for name in present if name not in elsewhere))


@contextmanager
def precision(case: Case) -> Iterator[None]:
    """PyTorch's own switches for TF32 and sums in float16, as the case wants them."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision, matmul.allow_fp16_accumulation
    matmul.fp32_precision = "tf32" if case.reduces("float32") else "ieee"
    matmul.allow_fp16_accumulation = case.reduces("float16")
    try:
        yield
    finally:
        matmul.fp32_precision, matmul.allow_fp16_accumulation = before


@contextmanager
def telling(subject: str, case: Case) -> Iterator[None]:
    """Turn whatever the subject raises into a Failure that can be replayed."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        failure = Failure(subject, case, f"it raised {type(error).__name__}: {error}")
        if "CUDA error" in str(error) or type(error).__name__ == "AcceleratorError":
            raise DeviceLost(failure) from error
        raise failure from error


def _exact_if_possible(case: Case, declared: Accumulation) -> Accumulation:
    """Sums of small integers are exact in every accumulator; without a sigmoid, so is the rest."""
    return _EXACT if case.data == "integers" and case.scale == 0 else declared


def _fraction(
    case: Case, operands: Operands, y: torch.Tensor, accumulation: Accumulation
) -> torch.Tensor:
    expected, bound = expected_and_bound(
        operands.x, operands.weight, operands.bias, case.scale, accumulation
    )
    return fraction_of_bound(y, expected, bound)


def _judge(
    subject: str,
    case: Case,
    operands: Operands,
    y: torch.Tensor,
    fraction: torch.Tensor,
    broken: dict[str, torch.Tensor],
) -> float:
    worst = fraction.amax() if fraction.numel() else fraction.new_zeros(())
    measured = [worst, *(flag.to(worst.dtype) for flag in broken.values())]
    value, *flags = torch.stack(measured).tolist()
    complaints = [what for what, flag in zip(broken, flags, strict=True) if flag]
    if value > 1:
        complaints.append(_worst_element(case, operands, y, fraction))
    if complaints:
        raise Failure(subject, case, "; ".join(complaints), fraction=value)
    return float(value)


def _worst_element(case: Case, operands: Operands, y: torch.Tensor, fraction: torch.Tensor) -> str:
    flat = int(fraction.argmax())
    where = tuple(int(index) for index in torch.unravel_index(torch.tensor(flat), y.shape))
    expected, bound = expected_and_bound(
        operands.x, operands.weight, operands.bias, case.scale, _EXACT
    )
    wrong = int((fraction > 1).sum())
    over = float(fraction.view(-1)[flat])
    return (
        f"element {where} is {float(y.view(-1)[flat])!r}, the oracle says "
        f"{float(expected.view(-1)[flat])!r}: the error is "
        + ("not finite" if math.isinf(over) else f"{over:.3g} times the bound")
        + f" (its rounding and epilogue part is {float(bound.view(-1)[flat]):.3g}); "
        f"{wrong} of {y.numel()} elements are wrong"
    )
