"""Which configurations of a space are near which: its axes are the parameters, in powers of two."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from fusedops.registry import Parameters, Space
from fusedops.tune.rules import Setting

SIDES = ("block_m", "block_n")
SETTING = ("num_warps", "num_stages")
STAGE_STEPS = 0.5
"""How far one stage more is, beside a doubled block: it matters less."""


class Map:
    """A space's configurations by name, and how they lie to each other."""

    def __init__(self, space: Space, starts: Mapping[str, Any] | None = None) -> None:
        """starts: configurations by name that may lie outside the space, and are tried as well."""
        self.space = space
        self.configs: Mapping[str, Any] = {
            **{str(config): config for config in space.configs},
            **(starts or {}),
        }
        self._parameters = {name: space.parameters(each) for name, each in self.configs.items()}

    def parameters(self, name: str) -> Parameters:
        return self._parameters[name]

    def setting(self, name: str) -> Setting | None:
        """Its warps and stages, where the kernel has such."""
        numbers = self._parameters[name]
        if any(each not in numbers for each in SETTING):
            return None
        return Setting(numbers["num_warps"], numbers["num_stages"])

    def tile(self, name: str) -> Hashable:
        """All but its warps and stages."""
        return frozenset(
            (key, value) for key, value in self._parameters[name].items() if key not in SETTING
        )

    def family(self, name: str) -> Hashable:
        """The tile's sides; for a kernel without, the configuration itself."""
        numbers = self._parameters[name]
        return tuple(numbers[side] for side in SIDES if side in numbers) or name

    def with_setting(self, name: str, setting: Setting) -> tuple[str | None, str]:
        """The same tile in other warps and stages, or why there is none."""
        tile = self.tile(name)
        for each in self.configs:
            if self.tile(each) == tile and self.setting(each) == setting:
                return each, ""
        changed = {"num_warps": setting.warps, "num_stages": setting.stages}
        return None, self.space.why_not(self.configs[name], changed)

    def nearest(self, name: str, among: Sequence[str], *, apart_from: Sequence[str]) -> str:
        """Of these, the most like another, whatever its parameters ``apart_from``; of equals, the
        first."""
        return min(among, key=lambda each: self._distance(name, each, apart_from))

    def around(self, name: str) -> list[str]:
        """For each parameter its next value up and down, all else as near as can be."""
        here = self._parameters[name]
        found: list[str] = []
        for axis, value in here.items():
            values = {numbers[axis] for numbers in self._parameters.values()}
            above = min((each for each in values if each > value), default=None)
            below = max((each for each in values if each < value), default=None)
            for next_value in (above, below):
                if next_value is not None:
                    beside = [
                        each
                        for each, numbers in self._parameters.items()
                        if numbers[axis] == next_value
                    ]
                    found.append(self.nearest(name, beside, apart_from=(axis,)))
        return list(dict.fromkeys(found))

    def _distance(self, one: str, other: str, apart_from: Sequence[str]) -> float:
        """Doublings of each parameter; in place of warps, of what each has of the tile."""
        here, there = _shares(self._parameters[one]), _shares(self._parameters[other])
        return math.fsum(
            abs(value - there[key]) * (STAGE_STEPS if key == "num_stages" else 1)
            for key, value in here.items()
            if key not in apart_from
        )


def _shares(numbers: Parameters) -> dict[str, float]:
    """Logarithms, but of switches and stages; of warps that of what each has of the tile."""
    shares = {
        key: float(value) if key == "num_stages" or value <= 0 else math.log2(value)
        for key, value in numbers.items()
    }
    if "num_warps" in shares:
        area = math.fsum(shares[side] for side in SIDES if side in shares)
        shares["num_warps"] = area - shares["num_warps"]
    return shares
