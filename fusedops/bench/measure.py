"""Time the candidates of one shape: call by call with a cold L2, or replayed with cold weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import cycle, islice

import torch

from fusedops.bench.candidates import AUTO, Candidates, Oracle, kernel_of
from fusedops.bench.peers import PEERS, Op
from fusedops.timing import Call, interleaved

Operands = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Method = Callable[[Candidates, Operands, int, bool], dict[str, float]]
"""``method(candidates, operands, rounds, only_the_front)`` -> microseconds by name."""

CALLS_IN_A_GRAPH = 64
WEIGHTS_OVER_L2 = 4
MOST_WEIGHTS = 4096

QUALIFYING_ROUNDS = 3
QUALIFYING_FACTOR = 1.2


def call_by_call(
    candidates: Candidates, operands: Operands, rounds: int, only_the_front: bool
) -> dict[str, float]:
    """Single calls, interleaved; on a card, each after a flush of its L2."""
    calls: dict[str, Call] = {name: partial(op, *operands) for name, op in candidates.ops.items()}
    device = operands[0].device
    if only_the_front:
        calls = front(calls, interleaved(calls, device, rounds=QUALIFYING_ROUNDS, warmup=1))
    return interleaved(calls, device, rounds=rounds)


def replayed(
    candidates: Candidates, operands: Operands, rounds: int, only_the_front: bool
) -> dict[str, float]:
    """CUDA graphs of calls over distinct weights, more than the L2 holds; microseconds a call.

    What cannot be captured, or errs there, is a failure of the candidates.
    """
    x, weight, bias = operands
    weights = list(distinct_weights(weight))
    calls = len(weights) * math.ceil(CALLS_IN_A_GRAPH / len(weights))
    oracle = Oracle(x, weights[-1], bias)
    replays: dict[str, Call] = {}
    for name, op in list(candidates.ops.items()):
        try:
            graph, y = captured(op, x, list(islice(cycle(weights), calls)), bias)
        except Exception as error:  # a capture refuses in many ways
            candidates.fail(name, error)
            continue
        graph.replay()
        promised = candidates.declared.get(name)
        if promised is not None and not oracle.worst(y, promised) <= 1:
            candidates.fail(name, "replayed, its error exceeds the bound")
            continue
        replays[name] = graph.replay
    if only_the_front:
        times = interleaved(replays, x.device, rounds=QUALIFYING_ROUNDS, warmup=1)
        replays = front(replays, times)
    times = interleaved(replays, x.device, rounds=rounds)
    return {name: time / calls for name, time in times.items()}


def front(calls: Mapping[str, Call], times: Mapping[str, float]) -> dict[str, Call]:
    """The configurations near the front, and each kernel's best: the rest need no exact time."""
    best: dict[str, float] = {}
    for name, time in times.items():
        best[kernel_of(name)] = min(time, best.get(kernel_of(name), time))
    ours = (time for name, time in times.items() if is_ours(name))
    fastest = min(ours, default=math.inf)
    return {
        name: call
        for name, call in calls.items()
        if times[name] <= QUALIFYING_FACTOR * fastest or times[name] == best[kernel_of(name)]
    }


def is_ours(name: str) -> bool:
    """Whether it is one kernel's time: neither a peer's nor the operator's."""
    return "." in kernel_of(name) and name != AUTO and name not in PEERS


def distinct_weights(weight: torch.Tensor) -> Iterator[torch.Tensor]:
    """Weights of different contents that together exceed the L2 several times."""
    l2 = torch.cuda.get_device_properties(weight.device).L2_cache_size
    size = weight.numel() * weight.element_size()
    copies = min(max(2, math.ceil(WEIGHTS_OVER_L2 * l2 / size)), MOST_WEIGHTS)
    return (weight.roll(each, 0) for each in range(copies))


def captured(
    op: Op, x: torch.Tensor, weights: list[torch.Tensor], bias: torch.Tensor
) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    """A graph with one call for each weight, and the result of its last."""
    op(x, weights[0], bias)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for weight in weights:
            y = op(x, weight, bias)
    return graph, y
