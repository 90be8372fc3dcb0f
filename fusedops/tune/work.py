"""What candidates are given to do on a card: data, the exact result, and a call to be timed."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from typing import Protocol

import torch

from fusedops.bench.candidates import Oracle, fresh, over_nan
from fusedops.bench.measure import CALLS_IN_A_GRAPH, captured, distinct_weights
from fusedops.bench.workload import SCALE, operands
from fusedops.numerics import expected_and_bound_of_gradients, fraction_of_bound
from fusedops.plans import alignment, describe, device_facts
from fusedops.recovery import recovery_steps
from fusedops.registry import (
    FEW_ROWS,
    Accumulation,
    Launch,
    Problem,
    backward_problem,
)
from fusedops.tune.trial import Shape


class Work(Protocol):
    """calls: how many one ``call`` makes."""

    problem: Problem
    calls: int

    def error(self, launch: Launch, accumulation: Accumulation) -> float:
        """The largest error over the bound, of a run over NaN."""

    def call(self, launch: Launch, accumulation: Accumulation) -> Callable[[], object]:
        """What is timed. Raises where it errs as it is timed."""


class Called:
    """The operator on random operands, call by call."""

    calls = 1

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
        self._operands = operands(shape, dtype, device)
        self._oracle = Oracle(*self._operands)
        x, weight, _ = self._operands
        self._out = x.new_empty((x.shape[0], weight.shape[0]))
        self.problem = describe(*self._operands)

    def error(self, launch: Launch, accumulation: Accumulation) -> float:
        return self._oracle.worst(over_nan(launch, *self._operands), accumulation)

    def call(self, launch: Launch, accumulation: Accumulation) -> Callable[[], object]:
        return partial(launch, *self._operands, SCALE, self._out)


class Replayed(Called):
    """Few rows of x: a graph of calls over more weights than the card's L2 holds."""

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(shape, dtype, device)
        x, weight, bias = self._operands
        weights = list(distinct_weights(weight))
        self.calls = len(weights) * math.ceil(CALLS_IN_A_GRAPH / len(weights))
        self._weights = list(islice(cycle(weights), self.calls))
        self._last = Oracle(x, self._weights[-1], bias)

    def call(self, launch: Launch, accumulation: Accumulation) -> Callable[[], object]:
        x, _, bias = self._operands
        graph, y = captured(partial(fresh, launch), x, self._weights, bias)
        graph.replay()
        if not self._last.worst(y, accumulation) <= 1:
            raise RuntimeError("replayed in a graph, its error exceeds the bound")
        return graph.replay


class Backward:
    """The gradient with respect to z, and its sums over rows, from y."""

    calls = 1

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
        m, n, _ = shape
        generator = torch.Generator(device).manual_seed(0)

        def normal() -> torch.Tensor:
            values = torch.randn((m, n), generator=generator, device=device, dtype=torch.float32)
            return values.to(dtype)

        self._grad, self._saved = normal(), normal()
        self._dz = torch.empty_like(self._grad)
        self._dbias = self._grad.new_empty(n)
        self._steps = steps(dtype)
        problem = backward_problem(
            m,
            n,
            dtype,
            steps=self._steps,
            bias_dtype=dtype,
            alignment=alignment(self._grad, self._saved),
            **device_facts(device),
        )
        self.problem: Problem = problem

    def error(self, launch: Launch, accumulation: Accumulation) -> float:
        self._dz.fill_(math.nan)
        self._dbias.fill_(math.nan)
        self.call(launch, accumulation)()
        expected, bounds = expected_and_bound_of_gradients(
            self._grad,
            self._saved,
            SCALE,
            accumulation,
            from_y=self._steps > 0,
            bias_dtype=self._grad.dtype,
        )
        return max(
            float(fraction_of_bound(self._dz, expected.dz, bounds.dz).max()),
            float(fraction_of_bound(self._dbias, expected.dbias, bounds.dbias).max()),
        )

    def call(self, launch: Launch, accumulation: Accumulation) -> Callable[[], object]:
        return partial(launch, self._grad, self._saved, SCALE, self._dz, self._dbias, None)


def steps(dtype: torch.dtype) -> int:
    """From y to z, of a gradient at the scale that is tuned for."""
    return recovery_steps(SCALE, dtype) or 0


def forward(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    """As the registry's tables are timed: up to FEW_ROWS replayed."""
    kind = Replayed if shape[0] <= FEW_ROWS else Called
    return kind(shape, dtype, device)
