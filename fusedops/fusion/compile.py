"""The same replacement as a backend: ``torch.compile(model, backend="fusedops")``.

Dynamo hands over a graph of PyTorch's functions with the parameters as inputs. The patterns in it
are replaced, and the rest is Inductor's, or that of any other backend.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from fusedops.fusion import operator_support
from fusedops.fusion.match import Match, find
from fusedops.fusion.report import Left, Replaced, Report, at
from fusedops.fusion.rewrite import replace

_ROOT = re.compile(r"^L\['\w+'\]\.?")  # how Dynamo calls the model

log = logging.getLogger("fusedops")


class FusingBackend:
    """A backend for torch.compile that fuses, then hands the graph to ``inner``.

    ``inner`` is a backend's name or a backend; Inductor takes torch.compile's ``mode`` and
    ``options`` as usual. ``reports`` has one report for each graph compiled.
    """

    def __init__(self, inner: str | Callable[..., Any] = "inductor") -> None:
        self.inner = inner
        self.reports: list[Report] = []

    def __call__(
        self, graph_module: fx.GraphModule, example_inputs: Sequence[Any], **how: Any
    ) -> Callable[..., Any]:
        report = fuse_graph_module(graph_module)
        self.reports.append(report)
        log.info("torch.compile graph\n%s", report)
        if self.inner == "inductor":
            return _inductor(graph_module, example_inputs, **how)
        inner: Callable[..., Any] = torch._dynamo.lookup_backend(self.inner)
        compiled: Callable[..., Any] = inner(graph_module, example_inputs, **how)
        return compiled


def fuse_graph_module(graph_module: fx.GraphModule) -> Report:
    """Replace every match in a graph, and in the graphs it calls, in place."""
    replaced, left = [], []
    for part in graph_module.modules():
        if not isinstance(part, fx.GraphModule):
            continue
        found = find(part.graph, part)
        left += [
            Left(_module_of(node), f"sigmoid{at(node)}", (why,)) for node, why in found.refused
        ]
        replaced += [
            Replaced(_module_of(match.result), _linear_of(match), match.scale_name())
            for match in found.matches
        ]
        replace(part.graph, part, found.matches, _overload)
        if found.matches:
            part.graph.lint()
            part.recompile()
    return Report(tuple(replaced), tuple(left))


def _module_of(node: fx.Node) -> str:
    """The path of the module whose forward holds ``node``."""
    stack = node.meta.get("nn_module_stack") or {}
    return _ROOT.sub("", list(stack.values())[-1][0]) if stack else ""


def _linear_of(match: Match) -> str:
    stack = list((match.linear.z.meta.get("nn_module_stack") or {}).values())
    is_layer = (
        bool(stack) and isinstance(stack[-1][1], type) and issubclass(stack[-1][1], nn.Linear)
    )
    return _module_of(match.linear.z) if is_layer else str(match.linear)


def compile_backend(
    graph_module: fx.GraphModule, example_inputs: Sequence[Any], **how: Any
) -> Callable[..., Any]:
    """``torch.compile(model, backend=fusedops.compile_backend)``, or ``backend="fusedops"``.

    Replaces z + scale * sigmoid(z), z a linear layer's result, and compiles the rest with Inductor.
    What was replaced, and what was not and why, is logged to the logger ``fusedops``;
    ``FusingBackend`` keeps it.
    """
    return FusingBackend()(graph_module, example_inputs, **how)


def _overload(tensor_scale: bool) -> Callable[..., Any]:
    overload = operator_support.tensor_scale() if tensor_scale else operator_support.NUMBER
    assert overload is not None
    return overload  # type: ignore[no-any-return]


def _inductor(
    graph_module: fx.GraphModule,
    example_inputs: Sequence[Any],
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> Callable[..., Any]:
    from torch import _inductor

    chosen = {**(_inductor.list_mode_options(mode) if mode else {}), **(options or {})}
    compiled: Callable[..., Any] = _inductor.compile(
        graph_module, list(example_inputs), options=chosen
    )
    return compiled
