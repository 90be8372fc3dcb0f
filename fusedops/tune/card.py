"""A workbench with a card: candidates are loaded on it, checked and timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from fusedops.registry import Kernel
from fusedops.timing import samples
from fusedops.tune import figures
from fusedops.tune.named import named
from fusedops.tune.pool import Pool
from fusedops.tune.trial import Resources
from fusedops.tune.work import Work
from fusedops.tune.workbench import CardLost

MOST_KEPT = 32
"""Calls that are kept ready; a graph holds its results."""


class CardBench:
    """Of one kernel at work on the current device."""

    times_anything = True

    def __init__(self, kernel: Kernel, work: Work, device: torch.device, pool: Pool) -> None:
        self._kernel = kernel
        self._work = work
        self._device = device
        self._pool = pool
        self._accumulation = kernel.accumulation(work.problem)
        self._calls: dict[str, Callable[[], object]] = {}

    def expect(self, configs: Sequence[Any]) -> None:
        self._pool.expect(self._kernel, self._work.problem, configs)

    def resources(self, config: Any) -> Resources:
        self._pool.wait(self._kernel, self._work.problem, config)
        with card_may_be_lost():
            return figures.of_loaded(self._kernel, self._work.problem, config)

    def error(self, config: Any) -> float:
        with card_may_be_lost():
            launch = self._kernel.prepare(self._work.problem, config)
            return self._work.error(launch, self._accumulation)

    def times(self, configs: Sequence[Any], rounds: int) -> list[list[float]]:
        with card_may_be_lost():
            calls = {str(config): self.call(config) for config in configs}
            found = samples(calls, self._device, rounds=rounds, warmup=1)
        return [[each / self._work.calls for each in found[str(config)]] for config in configs]

    def call(self, config: Any) -> Callable[[], object]:
        """What is timed of a candidate."""
        name = str(config)
        call = self._calls.pop(name, None)
        if call is None:
            launch = self._kernel.prepare(self._work.problem, config)
            call = self._work.call(launch, self._accumulation)
        self._calls[name] = call
        while len(self._calls) > MOST_KEPT:
            del self._calls[next(iter(self._calls))]
        return call

    def call_of(self, name: str) -> Callable[[], object]:
        """The same, of a configuration of that name."""
        return self.call(named(self._kernel, self._work.problem, name))


@contextmanager
def card_may_be_lost() -> Iterator[None]:
    """Tell a candidate's failure from the card's: after some, every call of CUDA's fails."""
    try:
        yield
    except Exception as error:
        try:
            torch.cuda.synchronize()
        except Exception:
            raise CardLost(f"{type(error).__name__}: {error}") from error
        raise
