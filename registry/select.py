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
class Choice:
    """The kernel and configuration to launch, and why."""

    kernel: Kernel
    config: Any
    why: str

    def __str__(self) -> str:
        config = "" if self.config is None else f" {self.config}"
        return f"{self.kernel.name}{config}, because {self.why}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kernel and every reason it cannot run the problem; none for one that can."""

    kernel: str
    backend: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would run, why, and what every other kernel says; ``str()`` is a table.

    Where there is nothing to multiply no kernel runs: ``backend``, ``kernel`` and ``config`` are
    then empty.
    """

    problem: str
    backend: str
    kernel: str
    config: str
    why: str
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        lines = [self.problem, f"{self.kernel} {self.config}".strip(), f"  because {self.why}"]
        width = max((len(each.kernel) for each in self.candidates), default=0)
        for each in self.candidates:
            first, *others = each.reasons or ("can run",)
            mark = ">" if each.kernel == self.kernel else " "
            lines.append(f"{mark} {each.kernel:<{width}}  {first}")
            lines += [f"  {'':<{width}}  {other}" for other in others]
        return "\n".join(line for line in lines if line)


def check_request(request: Request, kernels: Sequence[Kernel], missing: Mapping[str, str]) -> None:
    """Raise ValueError when the request names something that does not exist."""
    backends = (AUTO, *BACKENDS)
    if request.backend not in backends:
        raise ValueError(
            f"unknown backend {request.backend!r} ({request.origin}); known: {', '.join(backends)}"
        )
    names = [kernel.name for kernel in kernels]
    if request.kernel is not None and request.kernel not in names:
        text = f"unknown kernel {request.kernel!r} ({request.origin}); known: {', '.join(names)}"
        absent = missing.get(request.kernel.partition(".")[0])
        raise ValueError(f"{text}; {absent}" if absent else text)


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
    rejected: list[Candidate] = []
    for kernel in ranked:
        if not _wanted(kernel, request):
            continue
        reasons = reasons_against(kernel, problem, missing)
        if reasons:
            rejected.append(Candidate(kernel.name, kernel.backend, reasons))
            continue
        configs = kernel.configs(problem)
        config = configs[0]
        if measured is not None and kernel.name == measured.kernel:
            config = next((each for each in configs if str(each) == measured.config), config)
        return Choice(kernel, config, f"you asked for {request}" if request.forced else why(kernel))
    raise NoKernelError(refusal(problem, request, rejected, missing))


def explain(
    problem: Problem,
    request: Request,
    kernels: Sequence[Kernel],
    missing: Mapping[str, str],
    table: Table | None = None,
) -> Explanation:
    """What ``select`` answers, with every kernel's reasons. Raises as it does."""
    choice = select(problem, request, kernels, missing, table)
    return Explanation(
        problem=str(problem),
        backend=choice.kernel.backend,
        kernel=choice.kernel.name,
        config="" if choice.config is None else str(choice.config),
        why=choice.why,
        candidates=tuple(
            Candidate(each.name, each.backend, reasons_against(each, problem, missing))
            for each in kernels
        ),
    )


def reasons_against(
    kernel: Kernel, problem: Problem, missing: Mapping[str, str]
) -> tuple[str, ...]:
    """Every reason, of this machine and of the kernel itself, against running the problem."""
    absent = missing.get(kernel.backend)
    return (*((absent,) if absent else ()), *kernel.why_not(problem))


def refusal(
    problem: Problem,
    request: Request,
    rejected: Sequence[Candidate],
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
