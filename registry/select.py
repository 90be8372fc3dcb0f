"""Selection: a pure function of (problem, request, kernels, what is missing, table)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .heuristic import preference
from .kernel import Kernel
from .problem import Problem
from .table import Table

AUTO = "auto"
INVARIANT_M = 4096
"""Batch-invariant problems sum as the best kernel for so many rows does. A judgement: many rows
have the most to lose, and few pay for it."""
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


class UnknownNameError(ValueError):
    """A request names a backend or a kernel that does not exist; the message lists the known."""


def check_request(request: Request, kernels: Sequence[Kernel], missing: Mapping[str, str]) -> None:
    """Raise UnknownNameError when the request names something that does not exist."""
    backends = (AUTO, *BACKENDS)
    if request.backend not in backends:
        raise UnknownNameError(
            f"unknown backend {request.backend!r} ({request.origin}); known: {', '.join(backends)}"
        )
    names = [kernel.name for kernel in kernels]
    if request.kernel is not None and request.kernel not in names:
        text = f"unknown kernel {request.kernel!r} ({request.origin}); known: {', '.join(names)}"
        if request.kernel in backends:
            raise UnknownNameError(f"{text}; {request.kernel!r} is a backend, not a kernel")
        family = request.kernel.partition(".")[0]
        absent = missing.get(family) if family not in {each.backend for each in kernels} else None
        raise UnknownNameError(f"{text}; {absent}" if absent else text)


def select(
    problem: Problem,
    request: Request,
    kernels: Sequence[Kernel],
    missing: Mapping[str, str],
    table: Table | None = None,
    *,
    may_compile: bool = True,
) -> Choice:
    """Choose the kernel and configuration for ``problem``.

    ``missing`` maps a backend that this machine lacks to the reason, in words. A forced request is
    obeyed or refused with NoKernelError; only "auto" steps down its list of preferences. It passes
    over what has yet to be compiled while another fused kernel can run at once; where nothing
    ``may_compile``, it takes what is ready.
    """
    check_request(request, kernels, missing)
    summation = _invariant_summation(problem, request, kernels, missing, table)
    able, rejected = _able(problem, request, kernels, missing)
    uncompiled: Choice | None = None
    for choice in _ranked(problem, able, table):
        kernel, config = choice.kernel, choice.config
        if summation is not None and kernel.summation(problem, config) != summation:
            continue
        if request.forced:
            return Choice(kernel, config, f"you asked for {request}")
        if uncompiled is not None and kernel.backend == "reference" and may_compile:
            break
        if kernel.ready(problem, config):
            chosen = choice if uncompiled is None else _instead(choice, uncompiled)
            return chosen if summation is None else _invariant(chosen)
        uncompiled = uncompiled or choice
    if uncompiled is not None and may_compile:
        return uncompiled
    raise NoKernelError(refusal(problem, request, rejected, missing))


def _able(
    problem: Problem,
    request: Request,
    kernels: Sequence[Kernel],
    missing: Mapping[str, str],
) -> tuple[list[Kernel], list[Candidate]]:
    """The wanted kernels that can run the problem, and the others with their reasons."""
    able, rejected = [], []
    for kernel in preference(problem, kernels):
        if _wanted(kernel, request):
            reasons = reasons_against(kernel, problem, missing)
            if reasons:
                rejected.append(Candidate(kernel.name, kernel.backend, reasons))
            else:
                able.append(kernel)
    return able, rejected


def _ranked(problem: Problem, able: Sequence[Kernel], table: Table | None) -> Iterator[Choice]:
    """Every kernel and configuration, the one to be tried first, first."""
    if table is not None:
        for each in table.predict(problem, able):
            row = each.source
            if row.shape == (problem.m, problem.n, problem.k):
                why = f"it was the fastest {row.how}: {row.microseconds:g} us"
            else:
                why = (
                    f"it should be the fastest: {each.microseconds:.3g} us, from "
                    f"{row.microseconds:g} us {row.how} at {row.shape}"
                )
            yield Choice(each.kernel, each.config, why)
    why = f"it comes first, of those that can run, in the order for {problem.device} devices"
    for kernel in able:
        for config in kernel.configs(problem):
            yield Choice(kernel, config, why)


def _invariant_summation(
    problem: Problem,
    request: Request,
    kernels: Sequence[Kernel],
    missing: Mapping[str, str],
    table: Table | None,
) -> str | None:
    """The order of summation that every M of a batch-invariant problem is to share.

    M is all in which such problems differ: the rows of x are dense, copied where they were not.
    """
    if not problem.batch_invariant:
        return None
    typical = replace(problem, m=INVARIANT_M)
    able, rejected = _able(typical, request, kernels, missing)
    # Which code has been compiled so far must not decide between bits.
    for on_demand in (False, True):
        for choice in _ranked(typical, able, table):
            summation = choice.kernel.summation(typical, choice.config)
            if summation is not None and choice.kernel.compiled_on_demand == on_demand:
                return summation
    raise NoKernelError(refusal(problem, request, rejected, missing))


def _instead(choice: Choice, uncompiled: Choice) -> Choice:
    other = f"{uncompiled.kernel.name} {uncompiled.config}"
    why = f"{choice.why}; {other} comes before it, once fusedops.prepare has compiled it"
    return Choice(choice.kernel, choice.config, why)


def _invariant(choice: Choice) -> Choice:
    why = f"{choice.why}; of those that add up in the order that is best for M = {INVARIANT_M}"
    return Choice(choice.kernel, choice.config, f"{why}, as the problem is batch-invariant")


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
    reasons = (*((absent,) if absent else ()), *kernel.reasons(problem))
    if not reasons and problem.batch_invariant and not _promises(kernel, problem):
        return ("its bits of a row may depend on M, and the problem is batch-invariant",)
    return reasons


def _promises(kernel: Kernel, problem: Problem) -> bool:
    """Whether some configuration names the order in which it adds."""
    return any(kernel.summation(problem, config) is not None for config in kernel.configs(problem))


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
