"""The epilogue over every 16-bit z: each kernel's largest error in units in the last place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from fusedops.numerics import expected_and_bound, fraction_of_bound
from fusedops.plans import describe
from fusedops.registry import Kernel
from fusedops.verify.case import Case
from fusedops.verify.failure import Failure
from fusedops.verify.fit import accepts, plain_cases
from fusedops.verify.properties import precision, telling

SCALES = (1.0, 2.0, -3.0)
DTYPES = ("float16", "bfloat16")
VALUES = 1 << 16

_ROWS = (VALUES, 4096, 128, 16, 1)
_COLUMNS = (1, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class EpilogueError:
    """The worst of all 65,536 values of z for one kernel, dtype (and what is allowed) and scale."""

    kernel: str
    dtype: str
    scale: float
    ulps: float
    z: float
    bound: float


def epilogue_errors(kernel: Kernel, device: torch.device) -> Iterator[EpilogueError]:
    """One row for each 16-bit dtype that the kernel takes and each scale.

    z is the product of one column that holds every bit pattern with one; the other columns of K, if
    the kernel needs them, are zeros, which add nothing.
    """
    for plain in plain_cases(kernel, device):
        if plain.dtype in DTYPES:
            case = _smallest(kernel, plain, device)
            for scale in SCALES:
                scaled = replace(case, scale=scale)
                with telling(kernel.name, scaled), precision(scaled):
                    row = _measure(kernel, scaled, device)
                yield row


def ulps(y: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """|y - expected| in units in the last place of ``expected`` rounded to y's dtype, float64."""
    info = torch.finfo(y.dtype)
    magnitude = expected.abs().clamp(min=info.smallest_normal)
    unit = torch.ldexp(torch.full_like(magnitude, info.eps / 2), torch.frexp(magnitude)[1])
    return (y.double() - expected).abs() / unit


def as_markdown(rows: Sequence[EpilogueError]) -> str:
    """The table of docs/verification.md."""
    lines = [
        "| Kernel | dtype | scale | largest error (ULP) | at z | of the bound |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.kernel} | {r.dtype} | {r.scale:g} | {r.ulps:.4f} | {r.z:.6g} | {r.bound:.3f} |"
        for r in rows
    ]
    return "\n".join(lines)


def _smallest(kernel: Kernel, plain: Case, device: torch.device) -> Case:
    """The narrowest problem that the kernel takes, with as many rows as it takes."""
    sizes = [(m, n, k) for n in _COLUMNS for k in _COLUMNS for m in _ROWS]
    for m, n, k in sorted(sizes, key=lambda size: (-size[0], size[1] * size[2])):
        case = replace(plain, m=m, n=n, k=k)
        each_part_aligned = m * n % 8 == 0 and m * k % 8 == 0
        if each_part_aligned and accepts(kernel, case, device):
            return case
    return plain


def _measure(kernel: Kernel, case: Case, device: torch.device) -> EpilogueError:
    dtype = case.torch_dtype
    patterns = torch.arange(-VALUES // 2, VALUES // 2, device=device).to(torch.int16)
    z = patterns.view(dtype)
    padded = z.new_zeros(-(-VALUES // case.m) * case.m, case.k)
    padded[:VALUES, 0] = z
    weight = z.new_zeros(case.n, case.k)
    weight[:, 0] = 1
    y = z.new_empty(len(padded), case.n)
    problem = describe(padded[: case.m], weight)
    launch = kernel.prepare(problem, kernel.configs(problem)[0])
    for rows in range(0, len(padded), case.m):
        part = slice(rows, rows + case.m)
        launch(padded[part], weight, None, case.scale, y[part])
    y = y[:VALUES]
    exact = padded[:VALUES, :1], z.new_ones(1, 1), None, case.scale
    expected, bound = expected_and_bound(*exact, kernel.accumulation(problem))
    fraction = fraction_of_bound(y, expected, bound)
    worst = float(fraction.amax())
    if worst > 1:
        at = float(z[int(fraction.amax(1).argmax())])
        where = f"z = {at!r}, scale {case.scale:g}, {case.dtype}"
        text = f"the epilogue at {where} is {worst:.3g} times the bound off"
        replay = f"python -m fusedops verify --epilogue --kernel {kernel.name}"
        raise Failure(kernel.name, case, text, fraction=worst, replay=replay)
    finite = (y.isfinite() & expected.isfinite()).all(1, keepdim=True)
    errors = torch.where(finite, ulps(y, expected), 0.0).amax(1)
    at = int(errors.argmax())
    allowed = ", float16 sums allowed" if case.reduces("float16") else ""
    arithmetic = case.dtype + allowed
    return EpilogueError(
        kernel.name, arithmetic, case.scale, float(errors[at]), float(z[at]), worst
    )
