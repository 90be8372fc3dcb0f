"""Everything that can be timed at one shape, each run and checked against the error bound first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from fusedops import backends, gemm_sig_res, prepare
from fusedops.bench.peers import Op, Peer
from fusedops.bench.workload import SCALE
from fusedops.numerics import expected_and_bound, fraction_of_bound
from fusedops.override import asked, request
from fusedops.plans import choose, describe
from fusedops.registry import Accumulation, Kernel, Launch, Problem, reasons_against

AUTO = "auto"
"""The operator as a user calls it: dispatch, allocation and the kernel that the registry takes."""

ELEMENTS_AT_ONCE = 1 << 24


class Oracle:
    """The exact result of some operands, and how far from it another may be."""

    def __init__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._operands = x, weight, bias
        self._rows = max(1, ELEMENTS_AT_ONCE // weight.shape[0])
        self._known: dict[Accumulation, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def worst(self, y: torch.Tensor, accumulation: Accumulation) -> float:
        """The largest |y - y64| as a fraction of the bound: at most 1 for a correct kernel."""
        if accumulation not in self._known:
            x, weight, bias = self._operands
            self._known[accumulation] = [
                expected_and_bound(rows, weight, bias, SCALE, accumulation)
                for rows in x.split(self._rows)
            ]
        blocks = zip(y.split(self._rows), self._known[accumulation], strict=True)
        return max(float(fraction_of_bound(rows, *known).max()) for rows, known in blocks)


@dataclass
class Candidates:
    """What can be timed, by name, and what is known of it.

    declared: the accuracy each of ours promises; peers promise none.
    error_over_bound: the largest error as a fraction of the bound, of whatever computes the op.
    chosen: what ``auto`` is.
    failures: what could not run, or erred by more than its promise: it is not timed.
    """

    oracle: Oracle
    ops: dict[str, Op] = field(default_factory=dict)
    declared: dict[str, Accumulation] = field(default_factory=dict)
    error_over_bound: dict[str, float] = field(default_factory=dict)
    chosen: str = ""
    failures: dict[str, str] = field(default_factory=dict)

    def admit(
        self,
        name: str,
        op: Op,
        first: Callable[[], torch.Tensor],
        *,
        promised: Accumulation | None = None,
        compared: Accumulation | None = None,
    ) -> None:
        """Add the op if its first run succeeds and keeps its promise."""
        try:
            y = first()
        except Exception as error:  # a peer, or a card, may fail in any way
            self.fail(name, error)
            return
        accumulation = promised or compared
        if accumulation is not None:
            fraction = self.oracle.worst(y, accumulation)
            self.error_over_bound[name] = round(fraction, 3)
            if promised is not None:
                self.declared[name] = promised
                if not fraction <= 1:
                    self.failures[name] = f"its error is {fraction:.3g} times the bound"
                    return
        self.ops[name] = op

    def fail(self, name: str, error: Exception | str) -> None:
        """It cannot be timed."""
        self.ops.pop(name, None)
        if isinstance(error, Exception):
            first_line = next(iter(str(error).splitlines()), "")
            error = f"{type(error).__name__}: {first_line}"
        self.failures[name] = error


def gather(
    operands: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    peers: Mapping[Peer, Op],
    kernels: Sequence[Kernel],
    *,
    every_config: bool = False,
) -> Candidates:
    """The peers, the operator as a user calls it, and each kernel's first or every configuration.

    A peer's error is compared with what the chosen kernel promises.
    """
    with suppress(Exception):  # the kernel's own entry will say it
        prepare(*operands)
    found = Candidates(Oracle(*operands))
    problem = describe(*operands)
    choice = choose(problem, request(*asked(None)))
    found.chosen = config_name(choice.kernel, choice.config)
    promised = choice.kernel.accumulation(problem)
    for peer, op in peers.items():
        compared = promised if peer.whole else None
        found.admit(peer.name, op, partial(op, *operands), compared=compared)
    found.admit(AUTO, _auto, partial(_auto, *operands), promised=promised)
    for kernel, config in _configurations(problem, kernels, every_config):
        name = config_name(kernel, config)
        try:
            launch = kernel.prepare(problem, config)
        except Exception as error:  # as above
            found.fail(name, error)
            continue
        first = partial(over_nan, launch, *operands)
        found.admit(name, partial(fresh, launch), first, promised=kernel.accumulation(problem))
    return found


def config_name(kernel: Kernel, config: Any) -> str:
    return kernel.name if config is None else f"{kernel.name} {config}"


def kernel_of(name: str) -> str:
    """The kernel of a ``config_name``; a peer's name is its own."""
    return name.partition(" ")[0]


def _configurations(
    problem: Problem, kernels: Sequence[Kernel], every: bool
) -> Iterator[tuple[Kernel, Any]]:
    for kernel in kernels:
        if not reasons_against(kernel, problem, backends.missing()):
            configs = kernel.configs(problem)
            yield from ((kernel, config) for config in (configs if every else configs[:1]))


def _auto(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return gemm_sig_res(x, weight, bias, SCALE)


def fresh(
    launch: Launch, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """The launch into a new result, as every other candidate makes one."""
    out = x.new_empty((x.shape[0], weight.shape[0]))
    launch(x, weight, bias, SCALE, out)
    return out


def over_nan(
    launch: Launch, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """The launch over NaN, which shows every element it leaves out."""
    out = x.new_full((x.shape[0], weight.shape[0]), float("nan"))
    launch(x, weight, bias, SCALE, out)
    return out
