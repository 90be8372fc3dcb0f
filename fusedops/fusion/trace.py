"""Trace a module's forward with torch.fx, and refuse wherever the trace might not be the forward.

Symbolic tracing runs the forward once, on stand-ins for tensors. What Python decides on the way is
decided for ever, silently. So this tracer looks for such decisions, and raises ``Untraceable``: a
module that is left alone is still right.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from fusedops.fusion.calls import Arguments, Call

Leaf = Callable[[str, nn.Module], bool]

OWNER = "fusedops_owner"  # a node's meta: the path of the module whose forward made it


class Untraceable(Exception):
    """Why a forward cannot be traced."""


def is_standard(module: nn.Module) -> bool:
    """Whether a trace keeps a call of ``module`` as one node: what runs a forward of PyTorch's, or
    ours, or has none."""
    if isinstance(module, (nn.Sequential, fx.GraphModule)):
        return False
    return type(module).forward.__module__.startswith(("torch.", "fusedops."))


@dataclass(frozen=True)
class Trace:
    graph: fx.Graph
    reads: dict[str, set[str]]  # the attributes read of each submodule, by its path


def trace(module: nn.Module, leaf: Leaf, call: Call | None = None) -> Trace:
    """What ``module``'s forward does with such a call, the usual one unless said, as a graph.
    Calls of the submodules that ``leaf`` names stay calls; others are traced through."""
    graphs = []
    for changed in (False, True):
        grad = torch.is_grad_enabled() ^ changed
        with _unharmed(module, changed), torch.set_grad_enabled(grad), _reads(module) as reads:
            try:
                graphs.append(_Tracer(leaf, call).trace(module))
            except Untraceable:
                raise
            except Exception as error:
                raise Untraceable(_first_line(error)) from error
    once, again = (graph.python_code("self").src for graph in graphs)
    if once != again:
        raise Untraceable("it does one thing in training and another in evaluation")
    return Trace(graphs[0], reads)


class _Value(fx.Proxy):
    """A stand-in for a tensor that does not let itself be asked what it is."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # what isinstance() looks at when type() does not answer it
        asker = sys._getframe(1).f_globals.get("__name__", "")
        if asker.startswith(("torch.", "fusedops.")):
            return type(self)
        raise Untraceable(f"it asks for the type of a value ({asker})")

    def __getattr__(self, name: str) -> Any:
        if self.node.op == "placeholder" and not hasattr(torch.Tensor, name):
            raise AttributeError(name)
        return super().__getattr__(name)


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True
    record_stack_traces = True

    def __init__(self, leaf: Leaf, call: Call | None) -> None:
        super().__init__()
        self.leaf = leaf
        self.call = call
        self.owners = [""]
        self.modes = _modes()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        arguments = Arguments(root_fn)
        call = self.call or arguments.usual
        given = {name: self.create_proxy("placeholder", name, (), {}) for name in call.tensors}
        positional, named = arguments.spelled({**given, **call.constants()})
        return (lambda: root_fn(self.root, *positional, **named)), []

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        path = self.path_of_module(m)
        if self.leaf(path, m):
            return self.create_proxy("call_module", path, args, kwargs)
        self.owners.append(path)
        try:
            return forward(*args, **kwargs)
        finally:
            self.owners.pop()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if _modes() != self.modes:
            raise Untraceable("it computes under no_grad, autocast, a checkpoint or the like")
        node = super().create_node(*args, **kwargs)
        node.meta[OWNER] = self.owners[-1]
        return node

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, torch.Tensor) and not self.has(a):
            raise Untraceable(
                f"it makes a tensor, of shape {tuple(a.shape)}, that depends on no input"
            )
        return super().create_arg(a)

    def has(self, tensor: torch.Tensor) -> bool:
        own = (*self.root.parameters(), *self.root.buffers())
        return tensor in self.tensor_attrs or any(each is tensor for each in own)


def _modes() -> tuple[object, ...]:
    devices = ("cpu", "cuda")
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        *(torch.is_autocast_enabled(device) for device in devices),
        *(torch.get_autocast_dtype(device) for device in devices),
        torch._C._autograd._top_saved_tensors_default_hooks(True),
    )


@contextmanager
def _reads(root: nn.Module) -> Iterator[dict[str, set[str]]]:
    """Record which attributes of ``root``'s submodules are read meanwhile."""
    paths = {module: path for path, module in root.named_modules()}
    reads: dict[str, set[str]] = {}

    def read(module: nn.Module, name: str) -> Any:
        value = object.__getattribute__(module, name)
        if module in paths:
            reads.setdefault(paths[module], set()).add(name)
        return value

    nn.Module.__getattribute__ = read  # type: ignore[method-assign, assignment]
    try:
        yield reads
    finally:
        del nn.Module.__getattribute__


@contextmanager
def _unharmed(root: nn.Module, other_mode: bool) -> Iterator[None]:
    """Put back what the forward assigns to its modules, and refuse a forward that does; inside,
    perhaps in the other of training and evaluation."""
    before = {module: _state(module) for module in root.modules()}
    for module in before:
        module.__dict__["training"] ^= other_mode
    try:
        yield
    finally:
        changed = [_restore(module, state) for module, state in before.items()]
    names = sorted({name for each in changed for name in each})
    if names:
        raise Untraceable(f"it assigns to {', '.join(names)}")


_State = dict[str, Any]
_TABLES = ("_parameters", "_buffers", "_modules")


def _state(module: nn.Module) -> _State:
    state = dict(module.__dict__)
    return {**state, **{name: dict(state[name]) for name in _TABLES}}


def _restore(module: nn.Module, before: _State) -> list[str]:
    """Put ``before`` back into ``module``; return the names of what had changed."""
    changed = []
    tables = [(module.__dict__, before), *((module.__dict__[n], before[n]) for n in _TABLES)]
    for live, old in tables:
        for name in {*live, *old} - {"training", *_TABLES}:
            if name not in live or name not in old or live[name] is not old[name]:
                changed.append(name)
        for name in changed:
            live.pop(name, None)
            if name in old:
                live[name] = old[name]
    module.__dict__["training"] = before["training"]
    return changed


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
