"""A kernel as a value: what it is called, what it cannot do, how it is launched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .problem import Problem
from .space import Space

Launch = Callable[..., None]
"""``launch(x, weight, bias, scale, out)`` writes every element of ``out``, once.

``scale`` is a number, or a tensor where the problem has a ``scale_dtype``. Where the problem
``writes_z``, a sixth argument is z's tensor, like ``out``. Of a BackwardProblem it is
``launch(grad, saved, scale, dz, dbias, dscale)``, None for what the problem does not want.
"""


@dataclass(frozen=True, slots=True)
class Accumulation:
    """What a kernel declares about its sums: ``(unit_roundoff, chain)`` is (u_acc, t) of the bound.

    ``unit_roundoff`` is that of the accumulator's arithmetic; ``chain`` is the part of it that a
    chain of truncating tensor-core products loses per term of the sum on data of one sign.
    ``spacing`` is the distance between its subnormal numbers, where sums of 16-bit operands can be
    as small: 2^-24 in float16, 0 elsewhere.
    """

    unit_roundoff: float
    chain: float = 0.0
    spacing: float = 0.0


def _unknown_order(problem: Problem, config: Any) -> str | None:
    return None


def _always(problem: Problem, config: Any) -> bool:
    return True


def _products(problem: Problem, config: Any) -> float:
    return float(problem.m) * problem.n * max(problem.k, 1)


def _none_but_configs(problem: Problem, name: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way to compute the op.

    name: ``backend.kernel``, unique.
    accumulation: the accuracy it declares for a problem; the tests hold it to that.
    why_not: every reason it cannot run the problem, in words; empty means it can. Pure, cheap, and
        callable on a machine that has none of the hardware.
    configs: the configurations valid for the problem, preferred first. Empty only where why_not
        is not.
    prepare: (problem, config) -> Launch. May import, load or compile; called once per problem.
    summation: names the order in which the products of a row are added. Configurations that share
        the word give a row the same bits whatever the other rows and M; None: M may matter.
    compiled_on_demand: whether prepare compiles; ``ready``: whether it has nothing left to.
    estimate: a modelled time; only ratios between problems mean anything.
    writes_z: whether it can give z as a second result; reads_scale: whether it can read the scale
        from the device's memory.
    space: what to tune over, ``configs`` among it; None: they are all there is.
    config_named: the valid configuration of that name, ``str`` of it, or None. So a table may name
        what a search of the space found, which ``configs`` has no place for.
    """

    name: str
    backend: str
    accumulation: Callable[[Problem], Accumulation]
    why_not: Callable[[Problem], tuple[str, ...]]
    configs: Callable[[Problem], tuple[Any, ...]]
    prepare: Callable[[Problem, Any], Launch]
    summation: Callable[[Problem, Any], str | None] = _unknown_order
    compiled_on_demand: bool = False
    ready: Callable[[Problem, Any], bool] = _always
    estimate: Callable[[Problem, Any], float] = _products
    writes_z: bool = False
    reads_scale: bool = False
    space: Callable[[Problem], Space] | None = None
    config_named: Callable[[Problem, str], Any | None] = _none_but_configs

    def tuned_over(self, problem: Problem) -> Space:
        """The configurations among which a search looks for the fastest."""
        return Space(self.configs(problem)) if self.space is None else self.space(problem)

    def reasons(self, problem: Problem) -> tuple[str, ...]:
        """Every reason it cannot run the problem, results and scale included."""
        reasons = []
        if problem.writes_z and not self.writes_z:
            reasons.append("z is wanted as a second result, for a gradient, and it writes y alone")
        if problem.scale_dtype is not None and not self.reads_scale:
            reasons.append("scale is a tensor on the device, and it takes a number")
        return (*reasons, *self.why_not(problem))
