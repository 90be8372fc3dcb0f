"""A whole benchmark: every shape in turn, with the peers that are here."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from fusedops import backends, gemm_sig_res
from fusedops.bench.candidates import AUTO, gather
from fusedops.bench.measure import call_by_call, replayed
from fusedops.bench.peaks import FP16_ACCUMULATION, Peaks
from fusedops.bench.peers import PEERS, Absent, Op, Peer
from fusedops.bench.report import (
    COLD_L2,
    GRAPH,
    IN_TURN,
    Report,
    Row,
    command,
    device_name,
    versions,
)
from fusedops.bench.workload import HOST, SCALE, Shape, operands
from fusedops.plans import describe, fp32_precision
from fusedops.registry import Kernel, Problem, dtype_name, reasons_against
from fusedops.registry.problem import Card
from fusedops.timing import Call, host_times

Announce = Callable[[str], None]

NO_ROWS, EVERY_ROW = 0, math.inf


@dataclass(frozen=True)
class Suite:
    """What to time, and how.

    absent: why each peer that was asked for is not among ``peers``.
    replayed_rows: shapes of at most so many rows of x are replayed as CUDA graphs.
    """

    shapes: Sequence[Shape]
    dtype: torch.dtype
    device: torch.device
    peers: Mapping[Peer, Op]
    absent: Mapping[str, str]
    kernels: Sequence[Kernel]
    peaks: Peaks | None
    precision: str
    rounds: int
    replayed_rows: float = NO_ROWS
    every_config: bool = False

    def rows(self, announce: Announce) -> Iterator[Row]:
        """Each shape's row as soon as it is measured; ``announce`` hears what goes on."""
        for number, shape in enumerate(self.shapes, 1):
            step = f"[{number}/{len(self.shapes)}] {'x'.join(map(str, shape))}"
            announce(f"{step}: compiling and checking")
            yield self.row(shape, partial(_announced, announce, step))

    def row(self, shape: Shape, announce: Announce) -> Row:
        try:
            return self._measured(shape, announce)
        except torch.cuda.OutOfMemoryError as error:
            first_line = str(error).splitlines()[0]
        torch.cuda.empty_cache()
        return Row(shape, self._floor(shape), "", {}, failures={"the shape": first_line})

    def _floor(self, shape: Shape) -> float | None:
        return self.peaks.floor(shape, self.dtype, self.precision) if self.peaks else None

    def _measured(self, shape: Shape, announce: Announce) -> Row:
        torch.compiler.reset()  # else the ninth shape is one recompilation too many
        data = operands(shape, self.dtype, self.device)
        candidates = gather(data, self.peers, self.kernels, every_config=self.every_config)
        announce(f"timing {len(candidates.ops)} candidates")
        measure = replayed if shape[0] <= self.replayed_rows else call_by_call
        times = measure(candidates, data, self.rounds, self.every_config)
        return Row(
            shape,
            self._floor(shape),
            candidates.chosen,
            times,
            candidates.error_over_bound,
            candidates.failures,
        )

    def able(self) -> list[str]:
        """The kernels that can run at one of the shapes at least."""
        card = None
        if self.device.type == "cuda":
            facts = torch.cuda.get_device_properties(self.device)
            capability = facts.major, facts.minor
            card = Card(facts.name, capability, facts.multi_processor_count)
        like = Problem.contiguous(1, 1, 1, self.dtype, bias_dtype=self.dtype, card=card)
        like = replace(
            like,
            fp32_precision=fp32_precision(),
            allow_fp16_accumulation=self.precision == FP16_ACCUMULATION,
        )
        problems = [like.resized(*shape) for shape in self.shapes]
        missing = backends.missing()
        return [
            kernel.name
            for kernel in self.kernels
            if any(not reasons_against(kernel, problem, missing) for problem in problems)
        ]

    def host(self) -> dict[str, float]:
        """The host's microseconds per call of a problem too small for the card to matter."""
        x, weight, bias = operands(HOST, self.dtype, self.device)
        calls: dict[str, Call] = {
            "F.linear": lambda: torch.nn.functional.linear(x, weight, bias),
            "torch.ops.fusedops.gemm_sig_res": lambda: torch.ops.fusedops.gemm_sig_res(
                x, weight, bias, SCALE
            ),
            AUTO: lambda: gemm_sig_res(x, weight, bias, SCALE),
        }
        calls |= {
            peer.name: partial(op, x, weight, bias) for peer, op in self.peers.items() if peer.whole
        }
        problem = describe(x, weight, bias)
        for kernel in self.kernels:
            if not reasons_against(kernel, problem, backends.missing()):
                calls[kernel.name] = partial(
                    gemm_sig_res, x, weight, bias, SCALE, backend=kernel.name
                )
        return host_times({name: call for name, call in calls.items() if _works(call)}, self.device)

    @property
    def method(self) -> str:
        if self.device.type != "cuda":
            return IN_TURN
        replayed = {shape[0] <= self.replayed_rows for shape in self.shapes}
        if replayed == {True, False}:
            return f"{COLD_L2}; M up to {self.replayed_rows}: {GRAPH}"
        return GRAPH if True in replayed else COLD_L2

    def report(self, rows: Sequence[Row], host: Mapping[str, float]) -> Report:
        """The figures with what is needed to make them again."""
        return Report(
            date=datetime.date.today().isoformat(),
            device=device_name(self.device),
            versions=versions(),
            threads=torch.get_num_threads(),
            command=command(),
            dtype=dtype_name(self.dtype),
            precision=self.precision,
            method=self.method,
            rounds=self.rounds,
            floor_from=self.peaks.source if self.peaks else "",
            absent=self.absent,
            rows=rows,
            host_microseconds=host,
        )


def ready(
    wanted: Sequence[Peer], device: torch.device, dtype: torch.dtype
) -> tuple[dict[Peer, Op], dict[str, str]]:
    """The wanted peers that can run here, mm always first, and why each other cannot."""
    present: dict[Peer, Op] = {}
    absent: dict[str, str] = {}
    for peer in dict.fromkeys((PEERS["mm"], *wanted)):
        try:
            present[peer] = peer.prepare(device, dtype)
        except Absent as why:
            absent[peer.name] = str(why)
    return present, absent


def _announced(announce: Announce, step: str, what: str) -> None:
    announce(f"{step}: {what}")


def _works(call: Call) -> bool:
    try:
        call()
    except Exception:  # the rows have said it
        return False
    return True
