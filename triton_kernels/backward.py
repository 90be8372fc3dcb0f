# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""dz = grad * dy/dz, the sums of its columns and that of grad * sigmoid(z), in one launch.

A program takes a strip of columns and every so many of its rows, so that all together sweep over
the matrix, and keeps the sums in registers until it is through. Where several share a strip, each
leaves a partial sum, and the one that arrives last at the strip's counter adds them in the order of
the programs: which it is does not show. It puts the counter back to zero, where the next launch
expects it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from fusedops.registry import BackwardProblem, Launch
from fusedops.workspace import workspace

from .backward_config import BackwardConfig
from .config import divisor
from .launch import Specialization, pointer
from .packet import Arguments, launch_addresses
from .slope import sigmoid_and_slope, slope_from_y


@triton.jit
def backward(
    grad,
    saved,
    dz,
    dbias,
    dscale,
    scale,
    partials,
    scale_partials,
    counters,
    M,
    N,
    STEPS: tl.constexpr,
    SCALE_ON_DEVICE: tl.constexpr,
    WIDE: tl.constexpr,
    HARDWARE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    programs = tl.num_programs(0)
    strips = tl.cdiv(N, BLOCK_N).to(tl.int32)
    strip = tl.program_id(0) % strips
    group = tl.program_id(0) // strips
    groups = programs // strips
    if SCALE_ON_DEVICE:  # noqa: SIM108 - only one of them compiles
        s = tl.load(scale).to(WIDE)
    else:
        s = tl.full((), scale, WIDE)

    columns = strip.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    rows = group.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    turn = groups.to(tl.int64) * BLOCK_M
    column_mask = (columns < N)[None, :]
    offsets = rows[:, None] * N + columns[None, :]
    dz_sum = tl.zeros((BLOCK_M, BLOCK_N), dtype=WIDE)
    scale_sum = tl.zeros((BLOCK_M, BLOCK_N), dtype=WIDE)
    for _ in range(0, tl.cdiv(M - group * BLOCK_M, turn).to(tl.int32)):
        mask = (rows < M)[:, None] & column_mask
        g = tl.load(grad + offsets, mask=mask, other=0.0).to(WIDE)
        known = tl.load(saved + offsets, mask=mask, other=0.0).to(WIDE)
        if STEPS == 0:
            sigmoid, slope = sigmoid_and_slope(known, s, HARDWARE)
            if dscale is not None:
                scale_sum += g * sigmoid
        else:
            slope = slope_from_y(known, s, STEPS, HARDWARE)
        result = g * slope
        if dbias is not None:
            dz_sum += tl.where(mask, result, 0.0)
        if dz is not None:
            tl.store(dz + offsets, result.to(dz.dtype.element_ty), mask=mask)
        rows += turn
        offsets += turn * N

    if dbias is not None:
        _finish_columns(
            dz_sum, dbias, partials, counters + strip, group, groups, columns, N, WIDE,
            BLOCK_M, BLOCK_N,
        )  # fmt: skip
    if dscale is not None:
        _finish_scale(scale_sum, dscale, scale_partials, counters + strips, programs, WIDE)


@triton.jit
def _finish_columns(
    dz_sum,
    dbias,
    partials,
    counter,
    group,
    groups,
    columns,
    N,
    WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The sums of a strip's columns over this program's rows, and over all where it is the last."""
    sums = tl.sum(dz_sum, 0)
    here = columns < N
    if groups == 1:
        tl.store(dbias + columns, sums.to(dbias.dtype.element_ty), mask=here)
    else:
        tl.store(partials + group.to(tl.int64) * N + columns, sums, mask=here)
        if _arrives_last(counter, groups):
            sums = _rows_of_partials(partials, groups, columns, N, WIDE, BLOCK_M, BLOCK_N)
            tl.store(dbias + columns, sums.to(dbias.dtype.element_ty), mask=here)


@triton.jit
def _finish_scale(scale_sum, dscale, partials, counter, programs, WIDE: tl.constexpr):
    tl.store(partials + tl.program_id(0), tl.sum(scale_sum))
    if _arrives_last(counter, programs):
        place = tl.arange(0, 1)
        total = _rows_of_partials(partials, programs, place.to(tl.int64), 1, WIDE, 1024, 1)
        tl.store(dscale + place, total.to(dscale.dtype.element_ty))


@triton.jit
def _rows_of_partials(
    partials, rows, columns, N, WIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    """The sum of rows that other programs left: not to be looked for in this one's cache."""
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=WIDE)
    for first in range(0, rows, BLOCK_M):
        row = first + tl.arange(0, BLOCK_M)
        # fusedops: allow store-load they are other programs' sums
        total += tl.load(
            partials + row.to(tl.int64)[:, None] * N + columns[None, :],
            mask=(row < rows)[:, None] & (columns < N)[None, :],
            other=0.0,
            cache_modifier=".cg",
        )
    return tl.sum(total, 0)


@triton.jit
def _arrives_last(counter, programs):
    """Whether this is the last of the programs, whose earlier stores it then sees."""
    tl.debug_barrier()
    last = tl.atomic_add(counter, 1, sem="acq_rel") == programs - 1
    if last:
        tl.store(counter, 0)
    return last


def specialization(problem: BackwardProblem, config: BackwardConfig) -> Specialization:
    """What the code for this problem depends on: not on M."""
    wide = torch.float64 if problem.dtype == torch.float64 else torch.float32
    wanted = {
        "dz": problem.dtype if problem.wants_dz else None,
        "dbias": problem.bias_dtype,
        "dscale": (problem.scale_dtype or problem.dtype) if problem.wants_dscale else None,
    }
    vector = 16 // problem.dtype.itemsize
    return Specialization(
        function=backward,
        types={
            "grad": pointer(problem.dtype),
            "saved": pointer(problem.dtype),
            **{name: pointer(dtype) for name, dtype in wanted.items()},
            "scale": "fp64" if problem.scale_dtype is None else pointer(problem.scale_dtype),
            "partials": pointer(wide),
            "scale_partials": pointer(wide),
            "counters": "*i32",
            "M": "i64",
            "N": "i64",
        },
        constants={
            **{name: None for name, dtype in wanted.items() if dtype is None},
            "STEPS": problem.steps,
            "SCALE_ON_DEVICE": problem.scale_dtype is not None,
            "WIDE": tl.float64 if wide == torch.float64 else tl.float32,
            "HARDWARE": wide == torch.float32 and not problem.interpreted,
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
        },
        divisors={
            "grad": problem.alignment,
            "saved": problem.alignment,
            "dz": 16,
            "partials": 16,
            "N": divisor(problem.n, vector),
        },
        num_warps=config.num_warps,
        num_stages=1,
        max_registers=config.max_registers(problem),
    )


def launch(problem: BackwardProblem, config: BackwardConfig) -> Launch:
    """The launch of this problem in this configuration."""
    special = specialization(problem, config)
    strips, groups = config.share(problem)
    programs = strips * groups
    sizes = {"M": problem.m, "N": problem.n}
    wide = torch.float64 if problem.dtype == torch.float64 else torch.float32
    meets = (problem.bias_dtype is not None and groups > 1) or problem.wants_dscale
    partials = groups * problem.n + programs if meets else 0
    scratch = workspace(partials, wide, strips + 1 if meets else 0)
    addresses = ("grad", "saved", "partials", "scale_partials", "counters")
    optional = [name for name in ("dz", "dbias", "dscale") if name not in special.constants]
    if problem.scale_dtype is not None:
        optional.append("scale")

    if problem.interpreted:

        def interpret(grad, saved, scale, dz, dbias, dscale):
            sums, counters = scratch(grad.device)
            backward[(programs,)](
                grad, saved, dz, dbias, dscale, scale, sums, sums[groups * problem.n :], counters,
                **sizes, **special.keywords,
            )  # fmt: skip

        return interpret

    assert problem.capability is not None
    arguments = Arguments(special, problem.capability, programs, sizes)
    start = launch_addresses(arguments, (*addresses, *optional))
    scale_partials = groups * problem.n * wide.itemsize

    def run(
        grad: torch.Tensor,
        saved: torch.Tensor,
        scale: float | torch.Tensor,
        dz: torch.Tensor | None,
        dbias: torch.Tensor | None,
        dscale: torch.Tensor | None,
    ) -> None:
        sums, counters = scratch(grad.device)
        first = sums.data_ptr()
        device_scale = scale if isinstance(scale, torch.Tensor) else None
        tensors = (dz, dbias, dscale, device_scale)
        start(
            grad.get_device(),
            scale if device_scale is None else 0.0,
            grad.data_ptr(),
            saved.data_ptr(),
            first,
            first + scale_partials,
            counters.data_ptr(),
            *[each.data_ptr() for each in tensors if each is not None],
        )

    return run
