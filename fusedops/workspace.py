"""The memory in which the blocks of one launch meet: partial sums, and counters of who has arrived.

The counters must be zero when a launch begins, and every launch leaves them so. Partial sums come
from PyTorch's allocator, which hands memory on in the order of a stream. Counters that are kept,
and zeroed once, save a second launch in every call; but two launches that run at the same time must
not share them. So there is one buffer for each stream, whose launches follow one another. A CUDA
graph may be replayed on any stream, and next to anything: what is captured gets counters of its own
from the graph's memory, and their zeroing is captured, too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

LEAST_COUNTERS = 1024

_counters: dict[tuple[int, int], torch.Tensor] = {}
_current_stream: Callable[[int], int] = getattr(torch._C, "_cuda_getCurrentRawStream", lambda _: 0)

Scratch = Callable[[torch.device], tuple[torch.Tensor, torch.Tensor]]


def workspace(partials: int, dtype: torch.dtype, counters: int) -> Scratch:
    """Gives a launch on the current stream of a device its partial sums and its counters."""

    def scratch(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        sums = torch.empty(partials, dtype=dtype, device=device)
        if not counters:
            return sums, sums
        if device.type != "cuda" or torch.cuda.is_current_stream_capturing():
            return sums, torch.zeros(counters, dtype=torch.int32, device=device)
        place = (device.index, _current_stream(device.index))
        kept = _counters.get(place)
        if kept is None or len(kept) < counters:
            size = max(counters, LEAST_COUNTERS)
            kept = _counters[place] = torch.zeros(size, dtype=torch.int32, device=device)
        return sums, kept

    return scratch
