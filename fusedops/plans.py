"""From tensors to a launch: describe the problem, select, prepare; then remember the plan.

The first call of a kind goes through the registry; every later one is a dictionary look-up.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch

from fusedops import backends, registry, settings, tables
from fusedops.checks import check
from fusedops.override import (
    asked,
    peek_context,
    peek_invariant,
    request,
    wants_invariance,
)
from fusedops.registry import (
    Choice,
    Explanation,
    Kernel,
    Launch,
    Problem,
    Request,
    check_request,
    select,
)
from fusedops.settings import BACKEND_KEY, BATCH_INVARIANT_KEY, KERNEL_KEY, peek
from fusedops.tables import table_for

Plan = tuple[Callable[[], torch.Tensor], Launch]
"""Makes the result's tensor; fills it."""

MOST_PLANS = 4096
ALIGNMENT = 16

profiling: Callable[[], bool] = torch._C._autograd._profiler_enabled

_log = logging.getLogger("fusedops")
_plans: dict[Any, Any] = {}
tables.when_changed.append(_plans.clear)


def compute(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float = 1.0,
    backend: str | None = None,
) -> torch.Tensor:
    """The operator on real tensors. Microseconds count: everything a plan can hold, it holds."""
    key = plan_key(x, weight, bias, backend)
    plan = _plans.get(key)
    if plan is None:
        plan = _make_and_keep(key, x, weight, bias, backend)
    allocate, launch = plan
    y = allocate()
    launch(x, weight, bias, scale, y)
    return y


def compute_into(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    out: torch.Tensor,
) -> None:
    """The operator on real tensors, into a contiguous result of the right shape and dtype."""
    key = plan_key(x, weight, bias, None)
    plan = _plans.get(key) or _make_and_keep(key, x, weight, bias, None)
    plan[1](x, weight, bias, scale, out)


def compute_and_keep(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float | torch.Tensor,
    backend: str | None,
    *,
    writes_z: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """y, and z where it is wanted, else an empty tensor; ``scale`` may be a tensor."""
    scale_dtype = scale.dtype if isinstance(scale, torch.Tensor) else None
    key = (plan_key(x, weight, bias, backend), writes_z, scale_dtype)
    plan = _plans.get(key)
    if plan is None:
        plan = _make_and_keep(
            key, x, weight, bias, backend, writes_z=writes_z, scale_dtype=scale_dtype
        )
    allocate, launch = plan
    y = allocate()
    if not writes_z:
        launch(x, weight, bias, scale, y)
        return y, x.new_empty(0)
    z = allocate()
    launch(x, weight, bias, scale, y, z)
    return y, z


def plan_key(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, backend: str | None
) -> tuple[Any, ...]:
    """Everything a plan depends on."""
    try:
        x_address = x.data_ptr()
        address = x_address | weight.data_ptr()
        bias_key = None
        if bias is not None:
            address |= bias.data_ptr()
            bias_key = (bias.shape, bias.stride(), bias.dtype, bias.device)
        return (
            x.shape,
            x.stride(),
            x.dtype,
            x.device,
            weight.shape,
            weight.stride(),
            weight.dtype,
            weight.device,
            bias_key,
            x_address & (ALIGNMENT - 1),
            address & (ALIGNMENT - 1),
            freedom(x.dtype),
            peek_context() if backend is None else backend,
            peek(BACKEND_KEY),
            peek(KERNEL_KEY),
            peek_invariant(),
            peek(BATCH_INVARIANT_KEY),
            profiling(),
        )
    except RuntimeError:
        check(x, weight, bias)  # says in words what has no address
        raise


def _make_and_keep(
    key: Any,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    backend: str | None,
    **extras: Any,
) -> Plan:
    capturing = x.is_cuda and torch.cuda.is_current_stream_capturing()
    wanted = request(*asked(backend))
    plan = make_plan(x, weight, bias, wanted, may_compile=not capturing, **extras)
    if not capturing:  # where nothing may compile, second best may have been chosen
        keep(key, plan)
    return plan


def kept(key: Any) -> Any:
    """A remembered plan, or None."""
    return _plans.get(key)


def keep(key: Any, plan: Any) -> None:
    """Remember a plan, or forget all once there are too many."""
    if len(_plans) >= MOST_PLANS:
        _plans.clear()
    _plans[key] = plan


def fp32_precision() -> str:
    """Whether float32 products may use TF32, as PyTorch's own matmul would."""
    return "tf32" if _cublas_fp32_precision("cuda", "matmul") == "tf32" else "ieee"


def freedom(dtype: torch.dtype) -> str | bool:
    """The precision flag of PyTorch's that kernels for this dtype look at."""
    if dtype is torch.float32:
        return fp32_precision()
    return dtype is torch.float16 and _fp16_accumulation()


# torch.backends.cuda.matmul reads these through __getattr__, at ten times the cost.
_cublas_fp32_precision: Callable[[str, str], str] = torch._C._get_fp32_precision_getter
_fp16_accumulation: Callable[[], bool] = torch._C._get_cublas_allow_fp16_accumulation


def prepare(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, backend: str | None
) -> None:
    """Compile what calls with operands like these run fastest on, and forget what ran instead."""
    wanted = request(*asked(backend))
    problem = describe(x, weight, bias)
    kernels, missing, table = backends.kernels(), backends.missing(), table_for(problem)
    everything_ready = [replace(kernel, ready=lambda *_: True) for kernel in kernels]
    choice = select(problem, wanted, everything_ready, missing, table)
    choice.kernel.prepare(problem, choice.config)
    _plans.clear()


def make_plan(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    wanted: Request,
    *,
    may_compile: bool,
    writes_z: bool = False,
    scale_dtype: torch.dtype | None = None,
) -> Plan:
    """Check the operands, select a kernel and prepare its launch."""
    shape = check(x, weight, bias)
    check_request(wanted, backends.kernels(), backends.missing())
    allocate = partial(torch.empty, shape, dtype=x.dtype, device=x.device)
    if 0 in shape or x.is_meta:
        return allocate, _nothing
    if x.shape[-1] == 0:
        problem = replace(describe(x, weight), writes_z=writes_z)
        return allocate, backends.REFERENCE.prepare(problem, None)
    problem = replace(describe(x, weight, bias), writes_z=writes_z, scale_dtype=scale_dtype)
    choice = choose(problem, wanted, may_compile=may_compile)
    if settings.LOG.read() == "dispatch":
        _log.warning("%s: %s", problem, choice)
    launch = named(choice.kernel, choice.kernel.prepare(problem, choice.config))
    if is_copied(x) or not (bias is None or bias.is_contiguous()):
        launch = _copying(launch, x_too=is_copied(x))
    if not x.is_cuda:
        return allocate, launch
    if torch.cuda.device_count() > 1:
        return allocate, _on_device(x.device, launch)
    # What PyTorch's own compiled code allocates with: half the time of new_empty.
    empty = torch._C._dynamo.guards._empty_strided_cuda  # type: ignore[attr-defined]
    return partial(empty, shape, torch.empty(shape, device="meta").stride(), x.dtype), launch


def _nothing(*operands: object) -> None:
    """The launch of a result that has no elements, or no storage."""


def named(kernel: Kernel, launch: Launch) -> Launch:
    """While a profiler runs, a launch in a range that names the kernel."""
    if not profiling():
        return launch

    def ranged(*operands: Any) -> None:
        with torch.profiler.record_function(f"fusedops.{kernel.name}"):
            launch(*operands)

    return ranged


def _copying(launch: Launch, *, x_too: bool) -> Launch:
    """Give the kernel a contiguous bias, and a dense and aligned x."""

    def copied(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *others: Any,
    ) -> None:
        dense = x.clone(memory_format=torch.contiguous_format) if x_too else x
        launch(dense, weight, None if bias is None else bias.contiguous(), *others)

    return copied


def _on_device(device: torch.device, launch: Launch) -> Launch:
    """Make the operands' device the current one around the launch."""

    def guarded(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *others: Any,
    ) -> None:
        with torch.cuda.device(device):
            launch(x, weight, bias, *others)

    return guarded


def explain(problem: Problem, wanted: Request) -> Explanation:
    """What this machine would run, and what every kernel says."""
    kernels, missing = backends.kernels(), backends.missing()
    return registry.explain(problem, wanted, kernels, missing, table_for(problem))


def choose(problem: Problem, wanted: Request, *, may_compile: bool = True) -> Choice:
    """What this machine runs."""
    kernels, missing, table = backends.kernels(), backends.missing(), table_for(problem)
    return select(problem, wanted, kernels, missing, table, may_compile=may_compile)


def describe(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Problem:
    """The problem of these operands, as a kernel meets it.

    An x that ``is_copied`` and a strided bias are described as their copies.
    """
    k = x.shape[-1]
    m = math.prod(x.shape[:-1])
    n = weight.shape[0]
    copied = is_copied(x)
    rows = row_stride(x)
    x_strides = (k, 1) if copied or rows is None else (rows, x.stride(-1))
    return Problem(
        m=m,
        n=n,
        k=k,
        dtype=x.dtype,
        bias_dtype=None if bias is None else bias.dtype,
        x_strides=canonical(x_strides, m, k),
        weight_strides=canonical((weight.stride(0), weight.stride(1)), n, k),
        alignment=alignment(None if copied else x, weight, bias),
        fp32_precision=fp32_precision(),
        allow_fp16_accumulation=x.dtype is torch.float16 and _fp16_accumulation(),
        batch_invariant=wants_invariance(),
        interpreted=settings.triton_interpreter(),
        **device_facts(x.device),
    )


def is_copied(x: torch.Tensor) -> bool:
    """Whether a kernel gets a dense and aligned copy of x.

    It does where the leading dimensions do not collapse to rows at one stride. A batch-invariant
    call passes on no other x than a dense and aligned one: else the rows' stride, which one row
    does not have, or their alignment, which differs from row to row, would choose the summation.
    """
    if wants_invariance():
        return not x.is_contiguous() or x.data_ptr() % ALIGNMENT != 0
    return row_stride(x) is None


def row_stride(x: torch.Tensor) -> int | None:
    """The stride between consecutive rows of x (..., K), or None if there is no single one."""
    leading = [
        (size, stride) for size, stride in zip(x.shape[:-1], x.stride(), strict=False) if size != 1
    ]
    if not leading:
        return x.shape[-1]
    for (_, outer), (size, inner) in pairwise(leading):
        if outer != size * inner:
            return None
    return leading[-1][1]


def canonical(strides: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
    """The strides of a row-major matrix where a dimension of one leaves them free."""
    column = 1 if columns == 1 else strides[1]
    row = columns if rows == 1 else strides[0]
    return row, column


def alignment(*operands: torch.Tensor | None) -> int:
    """The largest power of two, at most ALIGNMENT, that divides every address."""
    address = ALIGNMENT
    for operand in operands:
        if operand is not None:
            address |= operand.data_ptr()
    return address & -address


@cache
def device_facts(device: torch.device) -> dict[str, Any]:
    """The fields of a Problem that the device fills."""
    if device.type != "cuda":
        return {"device": device.type}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": "cuda",
        "capability": (properties.major, properties.minor),
        "multiprocessors": properties.multi_processor_count,
        "device_name": properties.name,
    }
