"""The driver: one Hypothesis run for each kernel and each backend, and a tally of what it saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import hypothesis
import torch
from hypothesis.errors import Flaky, Unsatisfiable

from fusedops import backends
from fusedops.registry import Kernel
from fusedops.verify.case import Case
from fusedops.verify.failure import DeviceLost, Failure
from fusedops.verify.fit import plain_cases, why_the_card_is_wrong
from fusedops.verify.operands import GUARD
from fusedops.verify.properties import available_backends, check_kernel, check_op, configuration
from fusedops.verify.strategies import Limits, Pooling, kernel_cases, op_cases

Progress = Callable[["Tally"], None]


@dataclass(slots=True)
class Tally:
    """What one kernel, or one backend of the operator, was put through."""

    subject: str
    backend: str
    asked: int = 0
    examples: int = 0
    refused: int = 0
    configs: set[str] = field(default_factory=set)
    worst: dict[str, float] = field(default_factory=dict)
    worst_case: dict[str, str] = field(default_factory=dict)
    failure: Failure | None = None
    absent: str | None = None

    @property
    def complaint(self) -> str | None:
        """Why the run fails because of this subject, if it does."""
        if self.failure is not None:
            return str(self.failure)
        if self.absent is None and self.examples < self.asked:
            return f"{self.subject}: only {self.examples} of {self.asked} examples reached it"
        return None

    def add(self, case: Case, fraction: float, config: str | None = None) -> None:
        self.examples += 1
        if config is not None:
            self.configs.add(config)
        if fraction >= self.worst.get(case.dtype, -1.0):
            self.worst[case.dtype] = fraction
            self.worst_case[case.dtype] = str(case)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is made: the same plan on the same versions makes the same run.

    ``largest`` caps every size; ``guard`` is what surrounds the operands, in elements.
    """

    device: torch.device
    examples: int = 200
    seed: int = 0
    shrink: bool = True
    largest: int | None = None
    guard: int = GUARD

    def limits(self, *, interpreted: bool) -> Limits:
        limits = Limits.of(self.device, interpreted=interpreted)
        if self.largest is None:
            return limits
        return replace(limits, size=min(limits.size, self.largest), k=min(limits.k, self.largest))


def available_kernels(
    device: torch.device, kernels: Sequence[Kernel] | None = None
) -> tuple[list[Kernel], list[Tally]]:
    """The kernels this machine must exercise, and a tally that says why for each of the others."""
    present, absent = [], []
    names = available_backends(device)
    for kernel in backends.kernels() if kernels is None else kernels:
        reason = backends.missing().get(kernel.backend)
        if reason is None and kernel.backend not in names:
            reason = f"it does not run on {device.type} tensors"
            if kernel.backend == "triton":
                reason = "on a CPU it needs Triton's interpreter: set TRITON_INTERPRET=1"
        reason = reason or why_the_card_is_wrong(kernel, device)
        if reason is None:
            present.append(kernel)
        else:
            absent.append(Tally(kernel.name, kernel.backend, absent=reason))
    return present, absent


def verify_kernel(kernel: Kernel, plan: Plan, progress: Progress | None = None) -> Tally:
    """The properties of one kernel, over ``plan.examples`` cases that it accepts."""
    tally = Tally(kernel.name, kernel.backend, asked=plan.examples)
    plain = plain_cases(kernel, plan.device)
    if not plain:
        return tally
    interpreted = kernel.backend == "triton" and plan.device.type == "cpu"
    limits = plan.limits(interpreted=interpreted)

    def check(case: Case) -> None:
        fraction = check_kernel(kernel, case, plan.device, plan.guard)
        problem = case.problem(plan.device)
        tally.add(case, fraction, str(configuration(kernel, case, problem)))

    compiled_on_demand = kernel.backend == "triton" and not interpreted
    pooling = Pooling(plan.examples, plan.seed) if compiled_on_demand else None
    strategy = kernel_cases(kernel, plain, limits, plan.device, pooling)
    _search(check, strategy, plan, tally, progress)
    return tally


def verify_op(backend: str, plan: Plan, progress: Progress | None = None) -> Tally:
    """The properties of the operator with one backend asked for."""
    tally = Tally(backend, "operator", asked=plan.examples)
    interpreted = plan.device.type == "cpu" and "triton" in available_backends(plan.device)
    present, _ = available_kernels(plan.device)
    targets = [
        (kernel, plain)
        for kernel in present
        if kernel.backend == backend
        for plain in plain_cases(kernel, plan.device)
    ]

    def check(case: Case) -> None:
        fraction = check_op(case, backend, plan.device)
        if fraction is None:
            tally.refused += 1
            hypothesis.reject()
        tally.add(case, fraction)

    limits = plan.limits(interpreted=interpreted)
    pooling = Pooling(plan.examples, plan.seed) if plan.device.type == "cuda" else None
    strategy = op_cases(targets, limits, plan.device, pooling)
    _search(check, strategy, plan, tally, progress)
    return tally


def _search(
    check: Callable[[Case], None],
    strategy: hypothesis.strategies.SearchStrategy[Case],
    plan: Plan,
    tally: Tally,
    progress: Progress | None,
) -> None:
    """Run Hypothesis; leave the smallest failure found in the tally."""
    seen: list[Failure] = []

    def run(case: Case) -> None:
        try:
            check(case)
        except Failure as failure:
            seen.append(failure)
            raise
        finally:
            if progress is not None:
                progress(tally)

    try:
        _settings(plan)(hypothesis.seed(plan.seed)(hypothesis.given(strategy)(run)))()
    except Failure as failure:
        tally.failure = failure
    except Unsatisfiable:
        pass
    except Flaky:
        first = seen[0]
        text = f"{first.reason}; but not when it was run again"
        tally.failure = Failure(tally.subject, first.case, text, fraction=first.fraction)
    except DeviceLost as lost:
        tally.failure = lost.failure
        raise


def _settings(plan: Plan) -> hypothesis.settings:
    phases = [hypothesis.Phase.generate]
    if plan.shrink:
        phases.append(hypothesis.Phase.shrink)
    return hypothesis.settings(
        max_examples=plan.examples,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
