"""What the user asked for: the call's argument, then the context, then the environment."""

from __future__ import annotations

from contextvars import ContextVar, Token
from functools import cache
from types import TracebackType
from typing import Generic, TypeVar

import torch

from fusedops import settings
from fusedops.registry import AUTO, BACKENDS, Request

T = TypeVar("T")

_in_context: ContextVar[tuple[str, str] | None] = ContextVar("fusedops_backend", default=None)
_invariant: ContextVar[bool | None] = ContextVar("fusedops_batch_invariant", default=None)

peek_context = _in_context.get
"""What the context asks for, (backend, kernel) or None."""
peek_invariant = _invariant.get
"""Whether the context asks for batch invariance; None: it does not say."""


class _Scope(Generic[T]):
    """A value of a context variable for the length of a ``with`` block. Nests, and can be reused.

    Each thread and each asyncio task has its own. It reaches calls of functions compiled with
    torch.compile, since the operator reads it when it runs. A compiled function that enters it runs
    eagerly, and with ``fullgraph=True`` that is an error.
    """

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self._variable = variable
        self._value = value
        self._tokens: list[Token[T]] = []

    def __enter__(self) -> None:
        if torch.compiler.is_compiling():
            name = type(self).__name__
            raise RuntimeError(f"{name} cannot be traced: enter it outside the compiled function")
        self._tokens.append(self._variable.set(self._value))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._variable.reset(self._tokens.pop())


class use_backend(_Scope["tuple[str, str] | None"]):
    """Run every call inside the ``with`` block on one backend, or pin one kernel.

    The name is a backend ("auto", "cuda", "triton", "cpu", "reference") or a kernel such as
    "triton.tiled". Nests; each thread and each asyncio task has its own. It reaches calls of
    functions compiled with torch.compile, since the operator reads it when it runs. A compiled
    function that enters it runs eagerly, and with ``fullgraph=True`` that is an error.

    Raises ValueError for a name that is neither a backend nor of the form backend.kernel.
    """

    def __init__(self, name: str) -> None:
        super().__init__(_in_context, parse(name))


class batch_invariant(_Scope["bool | None"]):
    """Inside the ``with`` block, the bits of a row depend neither on the other rows nor on M.

    They still depend on the kernel, so on the card, the dtype, the weight's layout and the backend
    asked for. An x whose rows are not dense and aligned to 16 bytes is copied. Comes before
    FUSEDOPS_BATCH_INVARIANT, which ``batch_invariant(False)`` switches off. Nests and is scoped as
    ``use_backend`` is. A call that no kernel can serve so raises ``fusedops.NoKernelError``.
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__(_invariant, bool(enabled))


def wants_invariance() -> bool:
    """Whether the context, or else the environment, asks for batch invariance."""
    inside = _invariant.get()
    return settings.BATCH_INVARIANT.flag() if inside is None else inside


def context_name() -> str | None:
    """What ``use_backend`` was given, or None: a gradient computed in another thread, or after the
    ``with`` block, runs on what its call ran on."""
    inside = _in_context.get()
    return None if inside is None else "".join(inside)


def parse(name: str) -> tuple[str, str]:
    """Split a user's name into (backend, kernel), either of which may be empty."""
    if not isinstance(name, str):
        raise TypeError(f"a backend is named by a str, not {type(name).__name__}")
    if "." in name:
        return "", name
    if name not in (AUTO, *BACKENDS):
        raise ValueError(f"unknown backend {name!r}; known: {', '.join((AUTO, *BACKENDS))}")
    return name, ""


def asked(argument: str | None) -> tuple[str, str, str]:
    """(backend, kernel, origin) of the strongest request; the hashable form of ``request``."""
    if argument is not None:
        return (*parse(argument), "argument")
    inside = _in_context.get()
    if inside is not None:
        return (*inside, "context")
    kernel = settings.KERNEL.read()
    return ("", kernel, "environment") if kernel else (settings.BACKEND.read(), "", "environment")


@cache
def request(backend: str, kernel: str, origin: str) -> Request:
    """The request that ``asked`` stands for."""
    origins = {
        "argument": "the call's backend argument",
        "context": "use_backend()",
        "environment": settings.KERNEL.name if kernel else settings.BACKEND.name,
    }
    return Request(backend or AUTO, kernel or None, origins[origin])
