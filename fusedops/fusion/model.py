"""Fuse a model: which of its modules can be traced, where the pattern is, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from torch import fx, nn

from fusedops.fusion.layers import install, uninstall
from fusedops.fusion.match import Match, find
from fusedops.fusion.nodes import why_not_through
from fusedops.fusion.report import Left, Replaced, Report, at
from fusedops.fusion.trace import OWNER, Untraceable, is_standard, trace

_NOT_BY_ITSELF = "the pattern is there only for a call that passes more than what is required"


class Fused(NamedTuple):
    model: nn.Module
    report: Report


def fuse(model: nn.Module) -> Fused:
    """Replace every z + scale * sigmoid(z), z a linear layer's result, by the operator.

    The model is changed in place and returned with a report of what was replaced, what was left,
    and why. It keeps its parameters, state_dict, hooks, classes (as isinstance sees them) and
    modes; it can be copied, pickled, trained and fused again. ``unfuse`` undoes it.

    Modules are traced with torch.fx, and only those whose forward holds a pattern get another one.
    A module that does something a trace would lose (branches on values, no_grad, hooks inside the
    pattern) is left, with the reason; ``torch.compile(model, backend="fusedops")`` sees through
    most of those.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"fuse takes a torch.nn.Module, not {type(model).__name__}; for a function there is "
            'torch.compile(function, backend="fusedops")'
        )
    unfuse(model)
    survey = _survey(model)
    replaced, left = [], survey.left
    for path, owner in survey.owners.items():
        if install(model.get_submodule(path), frozenset(owner.inline)):
            replaced += owner.replaced
        else:
            left += [Left(path, each.linear, (_NOT_BY_ITSELF,)) for each in owner.replaced]
    return Fused(model, Report(tuple(replaced), tuple(left)))


def unfuse(model: nn.Module) -> nn.Module:
    """Give the modules that ``fuse`` changed their own forward back; returns the model."""
    for module in model.modules():
        uninstall(module)
    return model


@dataclass
class _Owner:
    """The smallest module whose forward holds a match, submodules included."""

    inline: set[str] = field(default_factory=set)  # the submodules that have a part of it
    replaced: list[Replaced] = field(default_factory=list)


@dataclass
class _Survey:
    owners: dict[str, _Owner] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)

    def add(self, path: str, match: Match) -> None:
        parts = [_parts(node.meta[OWNER]) for node in match.nodes()]
        shared = _shared(parts)
        place = ".".join([*_parts(path), *shared])
        owner = self.owners.setdefault(place, _Owner())
        for each in parts:
            ends = range(len(shared) + 1, len(each) + 1)
            owner.inline.update(".".join(each[len(shared) : end]) for end in ends)
        linear = _join(path, str(match.linear))
        owner.replaced.append(Replaced(place, linear, match.scale_name()))


def _survey(model: nn.Module) -> _Survey:
    """Trace every module that can be, the largest possible at a time, and collect the matches."""
    graphs, untraceable = _traces(model)
    survey = _Survey()
    seen: set[nn.Module] = set()
    for path, module in model.named_modules():
        if module in untraceable:
            why = untraceable[module]
            survey.left.append(Left(path, type(module).__name__, (why,)))
        if module not in graphs or module in seen:
            continue
        graph = graphs[module]
        seen.update(module.get_submodule(node.meta[OWNER]) for node in graph.nodes)
        found = find(graph, module)
        for match in found.matches:
            survey.add(path, match)
        for node, why in found.refused:
            survey.left.append(Left(_join(path, node.meta[OWNER]), f"sigmoid{at(node)}", (why,)))
    return survey


def _traces(model: nn.Module) -> tuple[dict[nn.Module, fx.Graph], dict[nn.Module, str]]:
    """The graph of every module, or why it has none; a submodule that has one is traced through."""
    graphs: dict[nn.Module, fx.Graph] = {}
    untraceable: dict[nn.Module, str] = {}

    def leaf(path: str, module: nn.Module) -> bool:
        return module not in graphs or why_not_through(module) is not None

    for module in reversed(list(model.modules())):
        if is_standard(module):
            continue
        try:
            graphs[module] = trace(module, leaf).graph
        except Untraceable as why:
            untraceable[module] = str(why)
    return graphs, untraceable


def _shared(paths: list[list[str]]) -> list[str]:
    """What all of them begin with."""
    levels = zip(*paths, strict=False)
    return [names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels)]


def _parts(path: str) -> list[str]:
    return path.split(".") if path else []


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
