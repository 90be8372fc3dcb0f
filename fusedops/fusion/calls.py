"""The calls of a forward that one trace covers: the same tensors, and the same values otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

PLAIN = (bool, int, float, str, type(None))  # values that a trace may take for constants


class Call(NamedTuple):
    """Which arguments are tensors, and what the others are; the rest keep their defaults."""

    tensors: tuple[str, ...]
    others: tuple[tuple[str, type, object], ...] = ()  # 1 is not True

    def constants(self) -> dict[str, object]:
        return {name: value for name, _, value in self.others}


class Arguments:
    """A forward's arguments, without self."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        named = [each for each in parameters if each.kind not in kinds]
        self.defaults = {each.name: each.default for each in named}  # Parameter.empty for none
        self.in_order = tuple(each.name for each in named if each.kind is not each.KEYWORD_ONLY)
        self.usual = Call(tuple(e.name for e in named if e.default is e.empty))

    def read(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Call, tuple[torch.Tensor, ...]] | None:
        """The call that these are, and its tensors; None where no trace could cover it."""
        if not kwargs and len(args) == len(self.usual.tensors) and _are_tensors(args):
            return self.usual, args
        if len(args) > len(self.in_order):
            return None
        given = {**dict(zip(self.in_order, args, strict=False)), **kwargs}
        tensors: dict[str, torch.Tensor] = {}
        others = []
        for name, default in self.defaults.items():
            value = given.pop(name, default)
            if isinstance(value, torch.Tensor):
                tensors[name] = value
            elif value is default and default is not inspect.Parameter.empty:
                continue
            elif isinstance(value, PLAIN):
                others.append((name, type(value), value))
            else:
                return None
        return None if given else (Call(tuple(tensors), tuple(others)), tuple(tensors.values()))

    def spelled(self, given: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """As positional and named arguments: the first may have no name to the outside."""
        named = dict(given)
        positional = []
        for name in self.in_order:
            if name not in named:
                break
            positional.append(named.pop(name))
        return positional, named


def _are_tensors(args: tuple[Any, ...]) -> bool:
    for each in args:  # noqa: SIM110 - each call pays, and all() costs more
        if not isinstance(each, torch.Tensor):
            return False
    return True
