"""What a kernel can be tuned over: its valid configurations, and how they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

Parameters = Mapping[str, int]
"""A configuration's numbers by name. All kernels mean the same by ``block_m``, ``block_n``,
``block_k``, ``num_warps`` and ``num_stages``; others are a kernel's own."""


def fields_of(config: Any) -> Parameters:
    """The whole numbers among a dataclass's fields."""
    if not is_dataclass(config):
        return {}
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: int(value) for name, value in values.items() if isinstance(value, int)}


def _not_listed(config: Any, changed: Parameters) -> str:
    return "no such configuration is compiled"


@dataclass(frozen=True)
class Space:
    """Configurations of one kernel for one problem, every one valid.

    parameters: of a configuration. why_not: why the configuration with these parameters changed is
    not among them.
    """

    configs: tuple[Any, ...]
    parameters: Callable[[Any], Parameters] = fields_of
    why_not: Callable[[Any, Parameters], str] = _not_listed
