"""Whether one time is really shorter than another."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusedops.tune.trial import ADOPTED, REVERTED, Trial

LEAST_GAIN = 0.02
HOPELESS = 1.2
"""Times the incumbent's: more than any drift of the clock, so a few rounds are enough to see it."""
CONFIDENCE = 1.96
"""Standard deviations of the 95 % interval."""
LEAST_ROUNDS = 6
"""The fewest that have such an interval: between the least and the greatest of n ratios the true
median lies but for one time in 2^(n - 1)."""


@dataclass(frozen=True)
class Comparison:
    """Two calls timed in turn. Times in microseconds, medians.

    ratio: the median of the candidate's over the incumbent's time, round by round. noise: half the
    width of the interval that holds the true one with 95 % confidence; None where fewer than
    LEAST_ROUNDS cannot tell.
    """

    microseconds: float
    incumbent_microseconds: float
    ratio: float
    noise: float | None

    @property
    def gain(self) -> float:
        return 1 - self.ratio


def compare(candidate: Sequence[float], incumbent: Sequence[float]) -> Comparison:
    """Of times taken in the same rounds: drift of the clock divides out of each ratio.

    The interval is that of the median by order statistics, which supposes nothing of how the ratios
    are distributed but that rounds are independent.
    """
    ratios = sorted(one / other for one, other in zip(candidate, incumbent, strict=True))
    return Comparison(
        microseconds=statistics.median(candidate),
        incumbent_microseconds=statistics.median(incumbent),
        ratio=statistics.median(ratios),
        noise=_noise(ratios) if len(ratios) >= LEAST_ROUNDS else None,
    )


def _noise(ratios: Sequence[float]) -> float:
    """Of ratios in order."""
    median = statistics.median(ratios)
    reach = CONFIDENCE * math.sqrt(len(ratios)) / 2
    middle = (len(ratios) - 1) / 2
    low = ratios[max(math.floor(middle - reach), 0)]
    high = ratios[min(math.ceil(middle + reach), len(ratios) - 1)]
    return max(high - median, median - low)


def computed(trial: Trial) -> str:
    """What is known of one that was not timed, in words."""
    found = trial.resources
    assert found is not None
    return (
        f"{found.registers} registers and {found.shared_bytes} bytes of shared memory: occupancy "
        f"{found.occupancy:.0%}, limited by {found.limiter}"
    )


def modelled(trial: Trial, own: Sequence[str]) -> tuple[Any, ...]:
    """What to rank what was not timed by: the estimate; what it cannot tell apart, by the kernel's
    own order, then by residents."""
    place = own.index(trial.config) if trial.config in own else len(own)
    found = trial.resources
    assert found is not None
    return trial.estimate, place, -found.occupancy, found.registers


def is_hopeless(found: Comparison) -> bool:
    return found.ratio > HOPELESS


def verdict(found: Comparison) -> tuple[str, str]:
    """Adopted or reverted, and why."""
    if found.gain < LEAST_GAIN:
        change = f"{abs(found.gain):.1%} {'faster' if found.gain > 0 else 'slower'}"
        return REVERTED, f"{change} than the best so far; a change must gain {LEAST_GAIN:.0%}"
    if found.noise is None:
        return REVERTED, f"{found.gain:.1%} faster, in too few rounds to know the noise"
    if found.gain <= found.noise:
        return REVERTED, f"{found.gain:.1%} faster, which is within the noise of {found.noise:.1%}"
    return ADOPTED, f"{found.gain:.1%} faster than the best so far, noise {found.noise:.1%}"
