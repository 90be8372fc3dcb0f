"""Put one call of the operator where a match was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx, nn

from fusedops.fusion.match import Linear, Match

Operator = Callable[[bool], Callable[..., Any]]  # told whether the scale is a tensor


def replace(graph: fx.Graph, root: nn.Module, matches: Sequence[Match], operator: Operator) -> None:
    """Rewrite ``graph`` in place. Each call stands where its z was computed or, where the scale is
    a tensor that comes later, right after that."""
    now: dict[Any, Any] = {}  # a match's operand may be an earlier match's result
    order = {node: place for place, node in enumerate(graph.nodes)}
    for match in matches:
        after = match.linear.z
        if isinstance(match.scale, fx.Node):
            after = max(after, match.scale, key=lambda node: order[node])
        with graph.inserting_before(after.next):
            weight, bias = _parameters(graph, root, match.linear)
            operands = (match.linear.x, weight, bias, match.scale)
            call = graph.call_function(
                operator(match.scale_is_a_tensor()),
                tuple(now.get(each, each) for each in operands),
            )
        call.meta = dict(match.result.meta)
        match.result.replace_all_uses_with(call)
        now[match.result] = call
        _erase(graph, match.nodes())


def _parameters(graph: fx.Graph, root: nn.Module, linear: Linear) -> tuple[fx.Node, fx.Node | None]:
    if linear.module is not None:
        biased = root.get_submodule(linear.module).bias is not None
        weight = graph.get_attr(f"{linear.module}.weight")
        return weight, graph.get_attr(f"{linear.module}.bias") if biased else None
    assert linear.weight is not None
    weight = graph.call_method("t", (linear.weight,)) if linear.transposed else linear.weight
    return weight, linear.bias


def _erase(graph: fx.Graph, nodes: Sequence[fx.Node]) -> None:
    """Erase ``nodes``, users first, and what only they used: attributes, transposes, items."""
    inputs = {each for node in nodes for each in node.all_input_nodes}
    for node in nodes:
        graph.erase_node(node)
    for node in inputs:
        is_view = node.op == "get_attr" or node.target in ("t", "transpose", "item", getattr)
        if is_view and node.op != "placeholder" and not node.users and node not in nodes:
            graph.erase_node(node)
