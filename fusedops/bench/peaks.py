"""The least time a card could take: the floor that every measurement is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fusedops.bench.workload import Shape
from fusedops.registry import H200, RTX_4090, dtype_name

IEEE, TF32, FP16_ACCUMULATION = "ieee", "tf32", "fp16 accumulation"
"""What the arithmetic may be: the dtype's own, or what one of PyTorch's switches allows."""


@dataclass(frozen=True)
class Peaks:
    """Bytes a second, and operations a second by arithmetic, with where the figures come from."""

    bytes_per_second: float
    flops: Mapping[str, float]
    source: str

    def floor(self, shape: Shape, dtype: torch.dtype, precision: str = IEEE) -> float:
        """Microseconds: each operand read and the result written once, or the products' time.

        float32 counts as three TF32 products where the card multiplies those faster.
        """
        m, n, k = shape
        traffic = (m * k + n * k + n + m * n) * dtype.itemsize
        rate = self.flops.get(precision, self.flops.get(dtype_name(dtype)))
        products = 2 * m * n * k / rate if rate else 0.0
        return max(traffic / self.bytes_per_second, products) * 1e6


PEAKS: Mapping[str, Peaks] = {
    H200.name: Peaks(
        4.3e12,
        {
            "bfloat16": 989.4e12,
            "float16": 989.4e12,
            FP16_ACCUMULATION: 989.4e12,
            TF32: 494.7e12,
            "float32": 494.7e12 / 3,
            "float64": 66.9e12,
        },
        "copy bandwidth as measured, 4.3 TB/s; dense data-sheet peaks of the H200 SXM",
    ),
    RTX_4090.name: Peaks(
        1.008e12,
        {
            "bfloat16": 165.2e12,
            "float16": 165.2e12,
            FP16_ACCUMULATION: 330.3e12,
            TF32: 82.6e12,
            "float32": 82.6e12,
            "float64": 1.29e12,
        },
        "data-sheet bandwidth; dense peaks of NVIDIA's Ada whitepaper",
    ),
}


def peaks_of(device: torch.device) -> Peaks | None:
    """The card's figures; of an unlisted card the copy bandwidth, measured; None for a CPU."""
    if device.type != "cuda":
        return None
    known = PEAKS.get(torch.cuda.get_device_name(device))
    return known or Peaks(
        copy_bandwidth(device), {}, "copy bandwidth, measured in this run; no compute peak is known"
    )


def copy_bandwidth(device: torch.device, size: int = 1 << 29, rounds: int = 10) -> float:
    """The best rate, in bytes a second, at which the card copies a buffer larger than its caches.

    Bytes read and bytes written both count.
    """
    source = torch.zeros(size, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(rounds):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        target.copy_(source)
        stop.record()
        stop.synchronize()
        best = min(best, start.elapsed_time(stop) * 1e-3)
    return 2 * size / best
