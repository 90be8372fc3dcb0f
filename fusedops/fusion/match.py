"""Find z = linear(x); y = z + scale * sigmoid(z) in an FX graph, or say why it is not there.

The search starts at each sigmoid: down to the linear layer that feeds it, up through the factors to
the sum. Nothing is written here; rewrite.py does that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fusedops.checks import DTYPES
from fusedops.fusion import operator_support
from fusedops.fusion.nodes import Operation, read, sets_a_mode, why_not_through, writes
from fusedops.registry import dtype_name

LARGEST_SCALE = torch.finfo(torch.float32).max


class No(Exception):
    """The pattern is not here; the message says why."""


def _name(node: fx.Node | None) -> str:
    return str(node.target if node is not None and node.op == "get_attr" else node)


@dataclass(frozen=True)
class Linear:
    """z, as the operands of the operator: a linear layer, or a product and perhaps a sum."""

    z: fx.Node
    x: fx.Node
    weight: fx.Node | None = None
    bias: fx.Node | None = None
    transposed: bool = False  # weight is (K, N)
    module: str | None = None  # the nn.Linear whose weight and bias these are
    product: fx.Node | None = None  # where z = product + bias is two nodes

    def __str__(self) -> str:
        return self.module or _name(self.weight)


@dataclass(frozen=True)
class Match:
    linear: Linear
    sigmoid: fx.Node
    scale: float | fx.Node
    result: fx.Node
    factors: tuple[fx.Node, ...] = ()

    def nodes(self) -> tuple[fx.Node, ...]:
        """All that it replaces, users before what they use."""
        return (self.result, *reversed(self.factors), self.sigmoid, self.linear.z) + (
            (self.linear.product,) if self.linear.product else ()
        )

    def scale_is_a_tensor(self) -> bool:
        scale = self.scale
        return isinstance(scale, fx.Node) and not isinstance(
            scale.meta.get("example_value"), torch.SymFloat
        )

    def scale_name(self) -> float | str:
        return _name(self.scale) if isinstance(self.scale, fx.Node) else self.scale


@dataclass
class Found:
    matches: list[Match] = field(default_factory=list)
    refused: list[tuple[fx.Node, str]] = field(default_factory=list)


def find(graph: fx.Graph, root: nn.Module) -> Found:
    """Every match in ``graph``, whose modules and attributes are ``root``'s, and every sigmoid that
    is in none, with the reason."""
    found = Found()
    for node in graph.nodes:
        operation = read(node, root)
        if operation is None or operation.name != "sigmoid":
            continue
        try:
            found.matches.append(_Search(graph, root).around(node, operation))
        except No as why:
            found.refused.append((node, str(why)))
    return found


def known(node: object, root: nn.Module) -> torch.Tensor | None:
    """A tensor with ``node``'s shape, dtype and device, where the graph knows them."""
    if not isinstance(node, fx.Node):
        return None
    for key in ("example_value", "val"):
        if isinstance(value := node.meta.get(key), torch.Tensor):
            return value
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        value = getattr(root.get_submodule(owner), name, None)
        return value if isinstance(value, torch.Tensor) else None
    if (of := _transpose_of(node, root)) is not None:
        value = known(of, root)
        return None if value is None or value.dim() != 2 else value.detach().t()
    return None


def _transpose_of(node: object, root: nn.Module) -> fx.Node | None:
    """The matrix that ``node`` is the transpose of."""
    operation = read(node, root)
    if operation is None or operation.name not in ("t", "transpose"):
        return None
    swapped = {operation.arguments.get(name) for name in ("dim0", "dim1")}
    if operation.name == "transpose" and swapped not in ({0, 1}, {-1, -2}):
        return None
    matrix = operation["input"]
    return matrix if isinstance(matrix, fx.Node) else None


class _Search:
    def __init__(self, graph: fx.Graph, root: nn.Module) -> None:
        self.graph = graph
        self.root = root

    def around(self, sigmoid: fx.Node, operation: Operation) -> Match:
        z = operation["input"]
        linear = self.linear(z)
        if operation.in_place:
            raise No("sigmoid_ writes over z, which the sum then reads")
        scale, factors, result = self.climb(sigmoid, linear.z)
        self.nobody_else_reads(linear.z, {sigmoid, result})
        match = Match(linear, sigmoid, scale, result, factors)
        self.nothing_happens_between(match)
        self.operands_fit(linear)
        return dataclasses.replace(match, scale=self.fitting(scale, linear))

    # Down: what computes z.

    def linear(self, z: object) -> Linear:
        operation = read(z, self.root)
        if not isinstance(z, fx.Node) or operation is None:
            raise No(f"the sigmoid is of {_words(z, self.root)}, not of a linear layer's result")
        if operation.name == "linear":
            weight, bias = operation.arguments.get("weight"), operation.arguments.get("bias")
            return Linear(z, operation["input"], weight, bias, module=operation.module)
        if operation.name == "addmm" and (operation["beta"], operation["alpha"]) == (1, 1):
            return self.product(z, operation["mat1"], operation["mat2"], operation["input"])
        if operation.name == "matmul":
            return self.product(z, operation["input"], operation["other"])
        if operation.name == "add" and operation["alpha"] == 1:
            for one, other in (("input", "other"), ("other", "input")):
                product = read(operation[one], self.root)
                if product is not None and product.name in ("matmul", "linear"):
                    return self.biased(z, operation[one], operation[other])
        raise No(f"the sigmoid is of {_words(z, self.root)}, not of a linear layer's result")

    def product(self, z: fx.Node, x: fx.Node, matrix: fx.Node, bias: object = None) -> Linear:
        if bias is not None and not isinstance(bias, fx.Node):
            raise No(f"the bias is the constant {bias!r}")
        weight = _transpose_of(matrix, self.root)
        if weight is not None:
            return Linear(z, x, weight, bias)
        return Linear(z, x, matrix, bias, transposed=True)

    def biased(self, z: fx.Node, product: fx.Node, bias: object) -> Linear:
        """product + bias, where both are nodes of their own."""
        inner = self.linear(product)
        if inner.module or inner.bias is not None or not isinstance(bias, fx.Node):
            raise No(f"the sigmoid is of {_words(z, self.root)}, not of a linear layer's result")
        if set(product.users) != {z}:
            raise No("the product of x and weight, before its bias, is used elsewhere")
        return Linear(z, inner.x, inner.weight, bias, inner.transposed, product=product)

    # Up: through the factors to the sum.

    def climb(
        self, sigmoid: fx.Node, z: fx.Node
    ) -> tuple[float | fx.Node, tuple[fx.Node, ...], fx.Node]:
        scale: float | fx.Node = 1.0
        factors: list[fx.Node] = []
        term = sigmoid
        while True:
            called = "the sigmoid's multiple" if factors else "the sigmoid"
            if len(term.users) != 1:
                raise No(f"{called} is used {len(term.users)} times: {_list(list(term.users))}")
            (user,) = term.users
            operation = read(user, self.root)
            if operation is not None and operation.name in ("add", "sub"):
                scale = _times(scale, self.sign(operation, term, z))
                return scale, tuple(factors), user
            if operation is None or operation.name not in ("mul", "div"):
                raise No(f"{called} goes to {_words(user, self.root)}, not to a sum with z")
            scale = _times(scale, self.factor(operation, term, z))
            factors.append(user)
            term = user

    def factor(self, operation: Operation, term: fx.Node, z: fx.Node) -> float | fx.Node:
        left, right = operation["input"], operation["other"]
        factor = right if left is term else left
        if factor in (term, z):
            raise No(f"the sigmoid is multiplied by {'z' if factor is z else 'itself'}")
        if isinstance(factor, (int, float)):
            if operation.name == "mul":
                return float(factor)
            if left is term and factor != 0:
                return 1 / factor
            raise No("the sigmoid is divided by zero, or divides a number")
        if not isinstance(factor, fx.Node):
            raise No(f"the scale is {factor!r}, not a real number")
        if operation.name == "div":
            raise No("the sigmoid is divided by a tensor, or divides one")
        return factor

    def sign(self, operation: Operation, term: fx.Node, z: fx.Node) -> float:
        """What the sum multiplies the term with: it must be z + sign * term."""
        left, right, alpha = operation["input"], operation["other"], operation["alpha"]
        if z not in (left, right):
            other = right if left is term else left
            raise No(f"the sum adds {_words(other, self.root)}, not the z that the sigmoid is of")
        if not isinstance(alpha, (int, float)):
            raise No(f"alpha is {alpha!r}, not a real number")
        if left is z:
            return float(alpha if operation.name == "add" else -alpha)
        if operation.name == "sub":
            raise No("z is subtracted from the sigmoid")
        if alpha != 1:
            raise No(f"alpha={alpha:g} multiplies z, not the sigmoid")
        return 1.0

    # Around: what makes it unsafe.

    def nobody_else_reads(self, z: fx.Node, readers: set[fx.Node]) -> None:
        others = [user for user in z.users if user not in readers]
        if any(user.op == "output" for user in others):
            raise No("z is itself a result of the graph")
        written = [user for user in others if writes(user, self.root)]
        if written:
            raise No(f"z is written in place by {_list(written)}")
        if others:
            raise No(f"z is used elsewhere: by {_list(others)}")

    def nothing_happens_between(self, match: Match) -> None:
        inside = set(match.nodes())
        start = match.linear.product or match.linear.z
        between = [each for each in _between(start, match.result) if each not in inside]
        modes = [each for each in between if sets_a_mode(each)]
        if modes:
            raise No(f"a mode changes between z and y: {_list(modes)}")
        if isinstance(match.scale, fx.Node) or match.linear.product:
            written = [each for each in between if writes(each, self.root)]
            if written:
                raise No(f"something is written in place between z and y: {_list(written)}")

    # The operands.

    def operands_fit(self, linear: Linear) -> None:
        weight, bias, x = self.tensors(linear)
        if weight is None:
            raise No("nothing is known of the weight: it is no parameter or buffer of the model")
        if weight.dim() != 2:
            raise No(f"the weight has {weight.dim()} dimensions, not 2")
        if weight.dtype not in DTYPES or weight.layout != torch.strided:
            raise No(f"the weight is {dtype_name(weight.dtype)}, {weight.layout}")
        if linear.bias is not None:
            columns = weight.shape[1 if linear.transposed else 0]
            if bias is None or bias.dim() != 1 or bias.shape[0] != columns:
                raise No("the bias is not known to have one number a column")
            if bias.dtype != weight.dtype:
                raise No(f"the bias is {dtype_name(bias.dtype)}, weight {dtype_name(weight.dtype)}")
        for name, tensor in (("x", x), ("the weight", weight)):
            if is_traceable_wrapper_subclass(tensor):
                raise No(f"{name} is a {type(tensor).__name__}, not a plain tensor")
        z = known(linear.z, self.root)
        if x is None or z is None:
            return
        same = x.dtype == weight.dtype == z.dtype
        if not same and not operator_support.follows_autocast(z.device.type):
            raise No(f"x is {dtype_name(x.dtype)} and z {dtype_name(z.dtype)}: autocast")

    def tensors(
        self, linear: Linear
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        x = known(linear.x, self.root)
        if linear.module is not None:
            module: Any = self.root.get_submodule(linear.module)
            return module.weight, module.bias, x
        return known(linear.weight, self.root), known(linear.bias, self.root), x

    def fitting(self, scale: float | fx.Node, linear: Linear) -> float | fx.Node:
        """The scale as the operator takes it."""
        if not isinstance(scale, fx.Node):
            if abs(scale) <= LARGEST_SCALE:
                return scale
            raise No(f"the scale is {scale:g}, not a float32 number")
        if isinstance(scale.meta.get("example_value"), (torch.SymFloat, torch.SymInt)):
            return self.fitting_number(scale, linear)
        tensor = known(scale, self.root)
        if tensor is None:
            raise No(f"the scale, {scale}, is not known to be a single number")
        if tensor.dim() != 0:
            raise No(f"the scale is a tensor of shape {tuple(tensor.shape)}, not a single number")
        if tensor.dtype not in DTYPES:
            raise No(f"the scale is {dtype_name(tensor.dtype)}")
        if operator_support.tensor_scale() is None:
            raise No("the scale is a tensor, and this operator's is a number")
        weight = self.tensors(linear)[0]
        if weight is not None and weight.device != tensor.device:
            raise No(f"the scale is on {tensor.device}, the weight on {weight.device}")
        return scale

    def fitting_number(self, scale: fx.Node, linear: Linear) -> float | fx.Node:
        """A Python number that Dynamo does not take for a constant: the item of a tensor."""
        tensor = scale.args[0] if scale.target == "item" else None
        if isinstance(tensor, fx.Node):
            with suppress(No):
                return self.fitting(tensor, linear)
        if isinstance(scale.meta["example_value"], torch.SymFloat) and _all_is_dynamic():
            return scale
        raise No("the scale is a number that changes from call to call: make it a 0-d tensor")


def _all_is_dynamic() -> bool:
    """Whether torch.compile was told dynamic=True: then a number may be dynamic and never change,
    and the operator makes a constant of it."""
    return not torch._dynamo.config.assume_static_by_default


def _times(one: float | fx.Node, other: float | fx.Node) -> float | fx.Node:
    if isinstance(one, fx.Node) or isinstance(other, fx.Node):
        if one == 1:
            return other
        if other == 1:
            return one
        raise No("a tensor and another factor both multiply the sigmoid")
    return one * other


def _between(start: fx.Node, stop: fx.Node) -> Iterator[fx.Node]:
    node = start.next
    while node is not stop:
        yield node
        node = node.next


def _list(nodes: list[fx.Node]) -> str:
    return ", ".join("the output" if node.op == "output" else str(node) for node in nodes)


def _words(node: object, root: nn.Module) -> str:
    """What ``node`` is, for a reason."""
    if not isinstance(node, fx.Node):
        return f"the constant {node!r}"
    if node.op == "output":
        return "the output"
    if node.op == "placeholder":
        return f"the input {node}"
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        why = why_not_through(module)
        kind = f"{node.target}, a {type(module).__name__}"
        return f"{kind} that {why}" if why else kind
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")
    return f"{node} ({name})"
