"""Timing that compares: candidates interleaved round by round, cold L2, medians.

Only ratios inside one run mean anything: clocks drift by 5 to 10 % as a card heats.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

import torch

Call = Callable[[], object]

L2_FLUSH_BYTES = 256 << 20
FLUSHES = 8  # so long on the card that even torch.compile has queued its call before they end


def interleaved(
    candidates: Mapping[str, Call], device: torch.device, *, rounds: int = 25, warmup: int = 3
) -> dict[str, float]:
    """The median time of each candidate's call, in microseconds."""
    times = samples(candidates, device, rounds=rounds, warmup=warmup)
    return {name: statistics.median(each) for name, each in times.items()}


def samples(
    candidates: Mapping[str, Call], device: torch.device, *, rounds: int, warmup: int
) -> dict[str, list[float]]:
    """The time of each candidate's call in every round, in microseconds, the rounds in order."""
    for call in candidates.values():
        for _ in range(warmup):
            call()
    once = _cuda_timer(device) if device.type == "cuda" else _cpu_timer
    times: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates.items())
    shuffle = random.Random(0).shuffle  # no candidate always meets what its neighbour left
    for _ in range(rounds):
        shuffle(order)
        for name, call in order:
            times[name].append(once(call))
    return times


def host_times(
    candidates: Mapping[str, Call], device: torch.device, *, calls: int = 200, rounds: int = 15
) -> dict[str, float]:
    """The median host time per call, in microseconds, with no synchronisation between calls."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            call()
            _synchronize(device)
            start = time.perf_counter()
            for _ in range(calls):
                call()
            times[name].append((time.perf_counter() - start) / calls * 1e6)
            _synchronize(device)
    return {name: statistics.median(each) for name, each in times.items()}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cuda_timer(device: torch.device) -> Callable[[Call], float]:
    flush = torch.empty(L2_FLUSH_BYTES, dtype=torch.int8, device=device)

    def once(call: Call) -> float:
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        for _ in range(FLUSHES):
            flush.zero_()
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) * 1e3

    return once


def _cpu_timer(call: Call) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e6
