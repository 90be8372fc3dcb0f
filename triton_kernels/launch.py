"""Compiling by a problem alone: what the machine code may assume is stated here, not inspected.

So the code that the tests inspect on a machine without a card is the code that runs on one.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource

from fusedops.registry import Problem

from . import driver
from .config import WARP

_TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}

TENSOR_MAP = "tensor map"


def element(dtype: torch.dtype) -> str:
    """Triton's name of a dtype."""
    return _TYPES[dtype]


def pointer(dtype: torch.dtype | None) -> str:
    """The type of a pointer to a dtype; of an absent operand for None."""
    return "constexpr" if dtype is None else f"*{element(dtype)}"


def scale_type(problem: Problem) -> str:
    """The type of the scale: a number, or a pointer to one."""
    return "fp64" if problem.scale_dtype is None else pointer(problem.scale_dtype)


def absent_operands(problem: Problem) -> dict[str, None]:
    """The operands that the problem does not have, compiled in as None."""
    present = {"bias": problem.bias_dtype is not None, "z_out": problem.writes_z}
    return {name: None for name, is_there in present.items() if not is_there}


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
    max_registers: int | None = None

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
            self.max_registers,
        )

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """What the machine code takes, in order: a name and a type each.

        A tensor descriptor arrives as a tensor map, its sizes and its strides. Behind everything
        come two workspaces of Triton's, which these kernels have no use for.
        """
        flat: list[tuple[str, str]] = []
        for name, kind in self.types.items():
            if kind.startswith("tensordesc"):
                flat += [(name, TENSOR_MAP), (f"{name} rows", "i32"), (f"{name} columns", "i32")]
                flat += [(f"{name} row stride", "i64"), (f"{name} column stride", "i64")]
            elif name not in self.constants:
                flat.append((name, kind))
        return (*flat, ("global scratch", "*i8"), ("profile scratch", "*i8"))

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
        language = GluonASTSource if self.function.is_gluon() else ASTSource
        return language(self.function, types, dict(self.constants), attributes)

    def compile(self, capability: tuple[int, int]) -> Any:
        """Triton's CompiledKernel for a capability; needs no card."""
        target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
        options = {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": True,
            "maxnreg": self.max_registers,
        }
        return triton.compile(self.source(), target=target, options=options)


@dataclass(frozen=True)
class Code:
    """A specialization's machine code, loaded on one device.

    resident: how many of its programs a multiprocessor has room for.
    tensor_maps: for every tensor descriptor, the box and the swizzle that the code expects.
    """

    function: ctypes.c_void_p
    threads: int
    shared: int
    resident: int
    tensor_maps: Sequence[Mapping[str, Any]]


_loaded: dict[tuple[Any, ...], dict[int, Code]] = {}
"""By specialization and capability, then by device."""

_compiling = threading.Lock()


def is_loaded(specialization: Specialization, capability: tuple[int, int]) -> bool:
    """Whether some device of the capability has the code."""
    return (*specialization.key, capability) in _loaded


def load(specialization: Specialization, capability: tuple[int, int], device: int) -> Code:
    """The code of a specialization on a device, compiled and loaded when first asked for."""
    key = (*specialization.key, capability)
    with _compiling:
        loaded = _loaded.get(key, {})
        if device not in loaded:
            loaded[device] = _load(specialization.compile(capability), device)
            _loaded[key] = loaded
    return loaded[device]


def _load(compiled: Any, device: int) -> Code:
    metadata = compiled.metadata
    if metadata.global_scratch_size or metadata.profile_scratch_size:
        raise RuntimeError(
            f"{metadata.name} asks for a workspace in global memory, and none of these kernels "
            "needs one: switch Triton's instrumentation off"
        )
    driver.ensure_context(device)
    function = driver.load(compiled.asm["cubin"], metadata.name, metadata.shared)
    threads = WARP * metadata.num_warps
    return Code(
        function=function,
        threads=threads,
        shared=metadata.shared,
        resident=driver.resident(function, threads, metadata.shared),
        tensor_maps=metadata.tensordesc_meta or (),
    )
