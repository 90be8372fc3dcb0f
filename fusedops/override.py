"""What the user asked for: the call's argument, then the context, then the environment."""

from __future__ import annotations

from contextvars import ContextVar, Token
from functools import cache
from types import TracebackType

import torch

from fusedops import settings
from fusedops.registry import AUTO, BACKENDS, Request

_in_context: ContextVar[tuple[str, str] | None] = ContextVar("fusedops_backend", default=None)

peek_context = _in_context.get
"""What the context asks for, (backend, kernel) or None."""


class use_backend:
    """Run every call inside the ``with`` block on one backend, or pin one kernel.

    The name is a backend ("auto", "cuda", "triton", "cpu", "reference") or a kernel such as
    "triton.tiled". Nests; each thread and each asyncio task has its own. It reaches calls of
    functions compiled with torch.compile, since the operator reads it when it runs. A compiled
    function that enters it runs eagerly, and with ``fullgraph=True`` that is an error.

    Raises ValueError for a name that is neither a backend nor of the form backend.kernel.
    """

    def __init__(self, name: str) -> None:
        self._wanted = parse(name)
        self._tokens: list[Token[tuple[str, str] | None]] = []

    def __enter__(self) -> None:
        if torch.compiler.is_compiling():
            raise RuntimeError(
                "use_backend cannot be traced: enter it outside the compiled function, or pass "
                "backend= to the call"
            )
        self._tokens.append(_in_context.set(self._wanted))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _in_context.reset(self._tokens.pop())


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
