"""Compiling and launching by a problem alone, without Triton's per-call argument inspection.

What the machine code may assume of its arguments is stated here from the problem, so the code that
the tests inspect on a machine without a card is the code that runs on one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fusedops.registry import Problem

_TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}

current_stream: Callable[[int], int] = getattr(
    torch._C,
    "_cuda_getCurrentRawStream",
    lambda device: torch.cuda.current_stream(device).cuda_stream,
)


def element(dtype: torch.dtype) -> str:
    """Triton's name of a dtype."""
    return _TYPES[dtype]


def pointer(dtype: torch.dtype | None) -> str:
    """The type of a pointer to a dtype; of an absent operand for None."""
    return "constexpr" if dtype is None else f"*{element(dtype)}"


@dataclass(frozen=True)
class Specialization:
    """Everything compiled code depends on: problems that agree in it share a binary.

    types: every run-time parameter's, in order. constants: the values of the parameters compiled
    in. divisors: a power of two known to divide an address (in bytes) or an integer.
    """

    function: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    divisors: Mapping[str, int]
    num_warps: int
    num_stages: int

    @property
    def keywords(self) -> dict[str, Any]:
        """The compile-time parameters, those that are not also in ``types``."""
        return {name: value for name, value in self.constants.items() if name not in self.types}

    @property
    def key(self) -> tuple[Any, ...]:
        return (
            self.function,
            *(tuple(part.items()) for part in (self.types, self.constants, self.divisors)),
            self.num_warps,
            self.num_stages,
        )

    def source(self) -> ASTSource:
        names = self.function.arg_names
        types = {
            name: "constexpr" if name in self.constants else self.types[name] for name in names
        }
        attributes = {
            (index,): [["tt.divisibility", self.divisors[name]]]
            for index, name in enumerate(names)
            if types[name] != "constexpr" and self.divisors.get(name, 1) > 1
        }
        return ASTSource(self.function, types, dict(self.constants), attributes)

    def compile(self, capability: tuple[int, int]) -> Any:
        """Triton's CompiledKernel for a capability; needs no card."""
        target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
        options = {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": True,
        }
        return triton.compile(self.source(), target=target, options=options)


Binary = tuple[Callable[..., None], int, Any]
"""Triton's launcher, the function's handle, and the metadata the launcher asks for."""

_kernels: dict[tuple[Any, ...], Any] = {}
_compiling = threading.Lock()


class Binaries(dict[int, Binary]):
    """The binaries of one specialization by device index, compiled and loaded when first asked."""

    def __init__(self, specialization: Specialization, problem: Problem) -> None:
        super().__init__()
        assert problem.capability is not None
        self.specialization = specialization
        self.capability = problem.capability

    def __missing__(self, device: int) -> Binary:
        key = (*self.specialization.key, self.capability, device)
        with _compiling, torch.cuda.device(device):
            kernel = _kernels.get(key)
            if kernel is None:
                kernel = self.specialization.compile(self.capability)
            start = kernel.run  # loads the code, so the handle exists from here on
            _kernels[key] = kernel
        self[device] = (start, kernel.function, kernel.packed_metadata)
        return self[device]
