"""From any case to one near it that a kernel accepts, so that few examples are thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from fusedops.checks import DTYPES
from fusedops.registry import Kernel, dtype_name
from fusedops.verify.case import Case

_PLAIN_SIZES = ((128, 128, 128), (16, 128, 128), (1, 128, 128), (128, 128, 256))
_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
_FEATURES = ("x", "weight", "bias", "x_offset", "weight_offset", "bias_offset", "batch")
_DATA = ("scale", "bias_step", "data", "magnitude", "specials", "config", "seed")


def accepts(kernel: Kernel, case: Case, device: torch.device) -> bool:
    """Whether the kernel's own predicate takes the case on this device."""
    return not kernel.why_not(case.problem(device))


def plain_cases(kernel: Kernel, device: torch.device) -> tuple[Case, ...]:
    """For each dtype and precision that the kernel takes, a contiguous, aligned, round case."""
    found = []
    for case in _plain(device):
        taken = (c for c in case if accepts(kernel, c, device))
        first = next(taken, None)
        if first is not None:
            found.append(first)
    return tuple(found)


def why_the_card_is_wrong(kernel: Kernel, device: torch.device) -> str | None:
    """Its reason to refuse every plain case here, if it would take one on another card."""
    reason = None
    for cases in _plain(device):
        for case in cases:
            problem = case.problem(device)
            reasons = kernel.why_not(problem)
            if not reasons:
                return None
            elsewhere = replace(problem, device="cuda", interpreted=False)
            others = (replace(elsewhere, capability=each) for each in _CAPABILITIES)
            if reason is None and any(not kernel.why_not(other) for other in others):
                reason = "; ".join(reasons)
    return reason


def fit(kernel: Kernel, plain: Case, wanted: Case, device: torch.device) -> Case:
    """``wanted`` where the kernel takes it; else ``plain`` with all of it that the kernel takes."""
    if accepts(kernel, wanted, device):
        return wanted
    case = plain
    for name in _DATA:
        case = _with(case, name, getattr(wanted, name))
    for size in ("m", "n", "k"):
        for value in _sizes(getattr(wanted, size), getattr(plain, size)):
            candidate = _with(case, size, value)
            if accepts(kernel, candidate, device):
                case = candidate
                break
    for feature in _FEATURES:
        candidate = _with(case, feature, getattr(wanted, feature))
        divides = candidate.batch <= 0 or candidate.m % candidate.batch == 0
        if divides and accepts(kernel, candidate, device):
            case = candidate
    return case


def _with(case: Case, name: str, value: Any) -> Case:
    changes: dict[str, Any] = {name: value}
    return replace(case, **changes)


def _sizes(wanted: int, plain: int) -> Iterator[int]:
    yield wanted
    for multiple in (8, 16, 32, 64, 128):
        yield -(-wanted // multiple) * multiple
    yield (wanted - 1) % plain + 1


def _plain(device: torch.device) -> Iterator[list[Case]]:
    for dtype in DTYPES:
        switchable = device.type == "cuda" and dtype in (torch.float32, torch.float16)
        for reduced in (False, True) if switchable else (False,):
            yield [Case(m, n, k, dtype_name(dtype), reduced=reduced) for m, n, k in _PLAIN_SIZES]
