"""Give a module a forward with the operator in it, and let go of it where it no longer holds.

A fused module keeps its parameters, buffers, submodules, hooks and state; only its class becomes a
subclass with another forward, as torch.nn.utils.parametrize does it. That forward is the traced
one. Whatever the trace took for granted is checked at each call: where it changed, the module is
traced again; what a trace does not cover runs the original.
"""

from __future__ import annotations

import copyreg
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from fusedops.functional import gemm_sig_res
from fusedops.fusion import operator_support
from fusedops.fusion.calls import PLAIN, Arguments, Call
from fusedops.fusion.match import Match, find
from fusedops.fusion.nodes import why_not_through
from fusedops.fusion.rewrite import replace
from fusedops.fusion.trace import Untraceable, trace

_STATE = "_fusedops_fusion"
_ORIGINAL = "_fusedops_original"
_CALLS = 16  # kinds of calls that one module is traced for
_OF_EVERY_MODULE = frozenset(nn.Module().__dict__)


def install(module: nn.Module, inline: frozenset[str]) -> bool:
    """Give ``module`` a fused forward, in which the submodules at the paths ``inline`` are traced
    through. False where there is nothing to fuse, and ``module`` is left as it was."""
    fusion = Fusion(inline)
    if fusion.forward(module, Arguments(type(module).forward).usual) is None:
        return False
    module.__dict__[_STATE] = fusion
    kind: Any = type(module)
    module.__class__ = _fused_class(kind)
    return True


def uninstall(module: nn.Module) -> None:
    if module.__dict__.pop(_STATE, None) is not None:
        module.__class__ = original_class(module)


def original_class(module: nn.Module | None) -> type:
    kind: type = type(module)
    original: type = vars(kind).get(_ORIGINAL, kind)
    return original


@dataclass(frozen=True)
class Assumption:
    """What a trace took for granted of one submodule, or of the module itself (no path)."""

    path: tuple[str, ...]
    kind: type
    only_its_forward: bool
    constants: tuple[tuple[str, object], ...]

    @classmethod
    def of(cls, module: nn.Module, path: str, reads: Iterable[str] = ()) -> Assumption:
        parts = tuple(path.split(".")) if path else ()
        found = _at(module, parts)
        values = [(name, getattr(found, name, None)) for name in sorted(reads)]
        constants = tuple(
            (name, value)
            for name, value in values
            if isinstance(value, PLAIN) and name not in _OF_EVERY_MODULE
        )
        return cls(parts, original_class(found), _only_its_forward(found), constants)

    def holds(self, module: nn.Module) -> bool:
        found: nn.Module | None = module
        if self.path:
            found = _at(module, self.path)
            if (
                original_class(found) is not self.kind
                or _only_its_forward(found) is not self.only_its_forward
            ):
                return False
        for name, value in self.constants:  # noqa: SIM110 - each call pays, and all() costs more
            if getattr(found, name, Assumption) != value:
                return False
        return True


@dataclass(frozen=True)
class Traced:
    """A forward with the operator in it, or None, for as long as the assumptions hold."""

    forward: Callable[..., Any] | None  # of the module and its required arguments
    assumptions: tuple[Assumption, ...]

    def holds(self, module: nn.Module) -> bool:
        for each in self.assumptions:  # noqa: SIM110 - each call pays, and all() costs more
            if not each.holds(module):
                return False
        return True


class Fusion:
    """What a fused module knows of itself. It refers to no module, so copies may share it."""

    def __init__(self, inline: frozenset[str]) -> None:
        self.inline = inline
        self._traced: dict[Call, Traced] = {}

    def forward(self, module: nn.Module, call: Call) -> Callable[..., Any] | None:
        """The fused forward for such a call, None where there is none."""
        traced = self._traced.get(call)
        if traced is None or not traced.holds(module):
            if torch.compiler.is_compiling():  # a tracer cannot be traced
                return None
            if len(self._traced) >= _CALLS and call not in self._traced:
                return None
            traced = self._traced[call] = _build(module, self.inline, call)
        return traced.forward

    def __reduce__(self) -> tuple[Any, ...]:
        return Fusion, (self.inline,)  # code made at run time cannot be pickled

    def __deepcopy__(self, memo: object) -> Fusion:
        twin = Fusion(self.inline)
        twin._traced = dict(self._traced)
        return twin


def _build(module: nn.Module, inline: frozenset[str], call: Call) -> Traced:
    def leaf(path: str, submodule: nn.Module) -> bool:
        return path not in inline or why_not_through(submodule) is not None

    try:
        traced = trace(module, leaf, call)
    except Untraceable:
        return Traced(None, tuple(Assumption.of(module, path) for path in sorted(inline)))
    graph = traced.graph
    matches = find(graph, module).matches
    swallowed = {path for match in matches for path in _swallowed(match)}
    assumptions = tuple(
        Assumption.of(module, path, traced.reads.get(path, ()))
        for path in sorted({*inline, *swallowed, *traced.reads})
    )
    if not matches:
        return Traced(None, assumptions)
    replace(graph, module, matches, lambda tensor_scale: gemm_sig_res)
    graph.lint()
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(compile(code.src, f"<fused {original_class(module).__name__}>", "exec"), scope)
    return Traced(scope["forward"], assumptions)


def _swallowed(match: Match) -> list[str]:
    """The submodules that are no longer called."""
    return [str(node.target) for node in match.nodes() if node.op == "call_module"]


def _at(module: nn.Module, path: tuple[str, ...]) -> nn.Module | None:
    found: nn.Module | None = module
    for name in path:
        found = None if found is None else found._modules.get(name)
    return found


def _only_its_forward(module: nn.Module | None) -> bool:
    return module is not None and why_not_through(module) is None


def _unlike_autocast(tensors: tuple[torch.Tensor, ...]) -> bool:
    """Whether the operator would do something else under autocast than the layers it is for."""
    return torch._C._is_any_autocast_enabled() and not all(
        operator_support.follows_autocast(each.device.type) for each in tensors
    )


@cache
def _fused_class(original: Any) -> Any:
    """``original`` with a forward that asks the module's ``Fusion``; its name stays, for whoever
    goes by names."""
    arguments = Arguments(original.forward)

    @functools.wraps(original.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        fusion: Fusion | None = self.__dict__.get(_STATE)
        read = None if fusion is None else arguments.read(args, kwargs)
        if fusion is not None and read is not None and not _unlike_autocast(read[1]):
            call, tensors = read
            fused_forward = fusion.forward(self, call)
            if fused_forward is not None:
                return fused_forward(self, *tensors)
        return original.forward(self, *args, **kwargs)

    def __reduce_ex__(self: nn.Module, protocol: Any) -> Any:
        make, made_of, *state = super(fused, self).__reduce_ex__(protocol)
        if make is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return (make, made_of, *state)
        return (_new, (original, *made_of[1:]), *state)

    def __setstate__(self: Any, state: Any) -> None:
        super(fused, self).__setstate__(state)
        fusion = self.__dict__.get(_STATE)
        if fusion is not None:
            fusion.forward(self, arguments.usual)

    body = {
        "forward": forward,
        "__reduce_ex__": __reduce_ex__,
        "__setstate__": __setstate__,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
        _ORIGINAL: original,
    }
    fused = type(original)(original.__name__, (original,), body)
    return fused


def _new(original: type, *arguments: Any) -> Any:
    fused = _fused_class(original)
    return fused.__new__(fused, *arguments)
