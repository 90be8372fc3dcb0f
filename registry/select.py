"""Selection: a pure function of (problem, request, kernels, what is missing, table)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .heuristic import preference
from .kernel import Kernel
from .problem import Problem
from .table import Table

AUTO = "auto"
BACKENDS = ("cuda", "triton", "cpu", "reference")


class NoKernelError(RuntimeError):
    """No kernel can serve the problem as requested; the message lists every candidate's reasons."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, and where: ``origin`` is quoted in errors."""

    backend: str = AUTO
    kernel: str | None = None
    origin: str = "the default"

    @property
    def forced(self) -> bool:
        return self.kernel is not None or self.backend != AUTO

    def __str__(self) -> str:
        wanted = f"kernel {self.kernel!r}" if self.kernel else f"backend {self.backend!r}"
        return f"{wanted} ({self.origin})"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A candidate and every reason it was not chosen."""

    kernel: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The kernel and configuration to launch, and why."""

    kernel: Kernel
    config: Any
    why: str
    rejected: tuple[Rejection, ...] = ()

    def explain(self) -> str:
        lines = [f"{self.kernel.name}  {self.config}", f"  because {self.why}"]
        for rejection in self.rejected:
            lines.append(f"  not {rejection.kernel}:")
            lines += [f"    - {reason}" for reason in rejection.reasons]
        return "\n".join(lines)


def check_request(request: Request, kernels: Sequence[Kernel], missing: Mapping[str, str]) -> None:
    """Raise ValueError when the request names something that does not exist."""
    backends = (AUTO, *BACKENDS)
    if request.backend not in backends:
        raise ValueError(
            f"unknown backend {request.backend!r} ({request.origin}); known: {', '.join(backends)}"
        )
    names = [kernel.name for kernel in kernels]
    if request.kernel is not None and request.kernel not in names:
        absent = missing.get(request.kernel.partition(".")[0])
        hint = f"; {absent}" if absent else ""
        raise ValueError(
            f"unknown kernel {request.kernel!r} ({request.origin}); known: {', '.join(names)}{hint}"
        )


def select(
    problem: Problem,
    request: Request,
    kernels: Sequence[Kernel],
    missing: Mapping[str, str],
    table: Table | None = None,
) -> Choice:
    """Choose the kernel and configuration for ``problem``.

    ``missing`` maps a backend that this machine lacks to the reason, in words. A forced request is
    obeyed or refused with NoKernelError; only "auto" steps down its list of preferences.
    """
    check_request(request, kernels, missing)
    measured = table.nearest(problem) if table is not None else None
    ranked, why = preference(problem, kernels, measured)
    rejected: list[Rejection] = []
    for kernel in ranked:
        if not _wanted(kernel, request):
            continue
        reasons = reasons_against(kernel, problem, missing)
        if reasons:
            rejected.append(Rejection(kernel.name, reasons))
            continue
        config = kernel.configs(problem)[0]
        if measured is not None and kernel.name == measured.kernel:
            named = [c for c in kernel.configs(problem) if str(c) == measured.config]
            config = named[0] if named else config
        reason = f"you asked for {request}" if request.forced else why(kernel)
        return Choice(kernel, config, reason, tuple(rejected))
    raise NoKernelError(refusal(problem, request, rejected, missing))


def reasons_against(
    kernel: Kernel, problem: Problem, missing: Mapping[str, str]
) -> tuple[str, ...]:
    """Every reason, of this machine and of the kernel itself, against running the problem."""
    absent = missing.get(kernel.backend)
    return (*((absent,) if absent else ()), *kernel.why_not(problem))


def refusal(
    problem: Problem,
    request: Request,
    rejected: Sequence[Rejection],
    missing: Mapping[str, str],
) -> str:
    """The error's text: the problem, every candidate, every reason, and the remedy."""
    lines = [f"no kernel can serve {request} for this problem", f"  {problem}"]
    for rejection in rejected:
        lines.append(f"  {rejection.kernel}:")
        lines += [f"    - {reason}" for reason in rejection.reasons]
    if not rejected:
        lines.append(f"  {missing.get(request.backend, 'no kernel is declared for it')}")
    lines.append(
        "Remedy: use backend 'auto', which takes the best kernel that can run, or change what the "
        "reasons name; `python -m fusedops doctor` says what this machine has."
    )
    return "\n".join(lines)


def _wanted(kernel: Kernel, request: Request) -> bool:
    if request.kernel is not None:
        return kernel.name == request.kernel
    return request.backend in (AUTO, kernel.backend)
