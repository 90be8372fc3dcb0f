"""One vocabulary for what a node of an FX graph computes.

A module, a function, a method, an operator or an ATen overload: ``read`` gives each the same name
and the same named arguments, or None where it is something else, or more than that name says.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

Arguments = dict[str, Any]

# Arguments in order; those with a default may be left out. Any other argument (out=, rounding_mode=
# and the like) makes a call something else.
_SIGNATURES: dict[str, tuple[tuple[str, ...], Arguments]] = {
    "linear": (("input", "weight", "bias"), {"bias": None}),
    "addmm": (("input", "mat1", "mat2", "beta", "alpha"), {"beta": 1, "alpha": 1}),
    "matmul": (("input", "other"), {}),
    "transpose": (("input", "dim0", "dim1"), {}),
    "t": (("input",), {}),
    "sigmoid": (("input",), {}),
    "mul": (("input", "other"), {}),
    "div": (("input", "other"), {}),
    "add": (("input", "other", "alpha"), {"alpha": 1}),
    "sub": (("input", "other", "alpha"), {"alpha": 1}),
}
_SYNONYMS = {
    "mm": "matmul",
    "expit": "sigmoid",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "subtract": "sub",
    "numpy_T": "t",
    "swapaxes": "transpose",
    "swapdims": "transpose",
}
_OTHER_NAMES = {"self": "input", "mat2": "other"}  # ATen's, and mm's
_FUNCTIONS: dict[Callable[..., Any], str] = {
    F.linear: "linear",
    torch.special.expit: "sigmoid",
    F.sigmoid: "sigmoid",
    operator.truediv: "div",
    operator.itruediv: "div_",
    **{
        getattr(torch, name): name
        for name in ("addmm", "matmul", "mm", "transpose", "t", "sigmoid", "sigmoid_", "swapaxes")
    },
    **{
        getattr(torch, name): name
        for name in ("mul", "multiply", "div", "divide", "true_divide", "add", "sub", "subtract")
    },
    **{getattr(operator, name): name for name in ("matmul", "mul", "add", "sub")},
    **{getattr(operator, name): f"{name[1:]}_" for name in ("imatmul", "imul", "iadd", "isub")},
}

_IN_PLACE_OPERATORS = {operator.setitem, operator.delitem} | {
    getattr(operator, f"i{name}")
    for name in (
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "matmul",
        "and",
        "or",
        "xor",
    )
}


@dataclass(frozen=True)
class Operation:
    name: str
    arguments: Arguments
    in_place: bool = False
    module: str | None = None  # the path of the nn.Linear that computes it

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]


def read(node: object, root: nn.Module) -> Operation | None:
    """What ``node`` computes, in the vocabulary above."""
    if not isinstance(node, fx.Node):
        return None
    if node.op == "call_module":
        return _read_module(node, root)
    spelled = _spelling(node)
    if spelled is None:
        return None
    if node.target is getattr:
        return Operation("t", {"input": node.args[0]})
    plain = spelled.removesuffix("_")
    name = _SYNONYMS.get(plain, plain)
    arguments = _bind(name, node)
    return None if arguments is None else Operation(name, arguments, in_place=spelled != plain)


def writes(node: fx.Node, root: nn.Module) -> bool:
    """Whether ``node`` may write to a tensor that was there before."""
    if node.op == "call_method":
        return str(node.target).endswith("_") or node.target == "__setitem__"
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        known = type(module).__module__.startswith("torch.nn.modules")
        return not known or bool(getattr(module, "inplace", False))
    if node.op != "call_function":
        return False
    if isinstance(node.target, torch._ops.OpOverload):
        return bool(node.target._schema.is_mutable)
    name = getattr(node.target, "__name__", "")
    in_place = name.endswith("_") or node.target in _IN_PLACE_OPERATORS
    return in_place or node.kwargs.get("out") is not None or node.kwargs.get("inplace") is True


def sets_a_mode(node: fx.Node) -> bool:
    """Whether ``node`` enters or leaves a mode: no_grad, autocast, a transform, a stream."""
    name = getattr(node.target, "__name__", "")
    return node.op == "call_function" and (
        name.startswith(("_enter", "_exit", "_set_", "set_", "_saved_tensors_hooks"))
        or name.endswith("_nesting")
    )


def _spelling(node: fx.Node) -> str | None:
    """The name that the call goes by, with the underscore of an in-place one."""
    target = node.target
    if node.op == "call_method":
        return str(target)
    if node.op != "call_function":
        return None
    if target is getattr:
        return "t" if node.args[1:2] in (("T",), ("mT",)) else None
    if isinstance(target, torch._ops.OpOverload):
        return target._opname if target.namespace == "aten" else None
    return _FUNCTIONS.get(target) if callable(target) else None


def _read_module(node: fx.Node, root: nn.Module) -> Operation | None:
    module = root.get_submodule(str(node.target))
    name = _computes_as(module)
    if name is None or len(node.args) + len(node.kwargs) != 1:
        return None
    (operand,) = (*node.args, *node.kwargs.values())
    return Operation(name, {"input": operand}, module=str(node.target))


def _computes_as(module: nn.Module) -> str | None:
    """What calling ``module`` does and all it does, if that is in the vocabulary."""
    if why_not_through(module) is None:
        for known, name in ((nn.Linear, "linear"), (nn.Sigmoid, "sigmoid")):
            if type(module).forward is known.forward:
                return name
    return None


def why_not_through(module: nn.Module) -> str | None:
    """Why calling ``module`` is more than running its class's forward; None if it is not."""
    if has_hooks(module):
        return "has hooks"
    if module._compiled_call_impl is not None:
        return "is compiled"
    return "has a forward of its own, not its class's" if "forward" in module.__dict__ else None


def has_hooks(module: nn.Module) -> bool:
    state = module.__dict__
    return bool(
        state["_forward_hooks"]
        or state["_forward_pre_hooks"]
        or state["_backward_hooks"]
        or state["_backward_pre_hooks"]
    )


def _bind(name: str, node: fx.Node) -> Arguments | None:
    if name not in _SIGNATURES:
        return None
    names, defaults = _SIGNATURES[name]
    if len(node.args) > len(names):
        return None
    bound = {**defaults, **dict(zip(names, node.args, strict=False))}
    for key, value in node.kwargs.items():
        bound[key if key in names else _OTHER_NAMES.get(key, key)] = value
    return bound if set(bound) == set(names) else None
