"""What Triton makes of a kernel of the registry, for a card that need not be here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fusedops.lint.machine import ptx, sass
from fusedops.lint.machine.program import UNITS, Program, writes_z
from fusedops.lint.machine.tools import Unchecked, dump, resources
from fusedops.registry import Kernel, Problem

OUTPUTS = ("out", "z_out")
"""What the kernels call their results."""

IR_STORE = re.compile(
    r"^.*(?:tt\.(?:store|descriptor_store|descriptor_reduce|atomic_\w+)"
    r"|async_tma_copy_local_to_global) .*$",
    re.MULTILINE,
)
LENGTHS = re.compile(r"<((?:\d+x)+)")


def programs(kernel: Kernel, problem: Problem) -> Iterator[Program]:
    """The kernel's configurations for a problem, compiled."""
    for config in kernel.configs(problem):
        special = specialization(kernel, problem, config)
        summation = kernel.summation(problem, config) or ""
        unit = next(word for word in summation.split("_") if word in UNITS)
        second = " with z" if writes_z(problem) else ""
        consumers = 2 if kernel.name == "triton.pingpong" else 1
        yield program(
            f"{kernel.name} {problem.arithmetic}{second} {config}",
            special,
            special.compile(problem.capability),
            unit,
            consumers * config.block_m * config.block_n,
        )


def specialization(kernel: Kernel, problem: Problem, config: Any) -> Any:
    """What Triton compiles of a kernel for a problem: a Specialization of triton_kernels.launch."""
    if find_spec("triton") is None:
        raise Unchecked("Triton is not installed: pip install triton")
    module = import_module(f"fusedops.{kernel.name.replace('triton.', 'triton_kernels.')}")
    return module.specialization(problem, config)


def figures(compiled: Any) -> dict[str, int]:
    """What cuobjdump says that compiled code takes: REG, STACK, LOCAL and SHARED among others."""
    return resources(dump(compiled.asm["cubin"], "--dump-resource-usage"))[compiled.metadata.name]


def program(
    name: str,
    special: Any,
    compiled: Any,
    unit: str,
    tile: int,
    results: Sequence[str] = OUTPUTS,
) -> Program:
    """What the rules look at of a compiled specialization; tile: elements of each output."""
    entry = ptx.entries(compiled.asm["ptx"])[compiled.metadata.name]
    parameters = special.parameters
    pointers = {
        f"{entry.name}_param_{index}": parameter
        for index, (parameter, kind) in enumerate(parameters)
        if kind.startswith("*") or kind == "tensor map"
    }
    written = set()
    for store in entry.select(ptx.STORES, ptx.TENSOR_STORES, ptx.GENERIC_STORES):
        for symbol, _ in entry.origins(store.address):
            if symbol in pointers:
                written.add(pointers[symbol])
            elif symbol == ptx.MEMORY:
                written.add("an address in memory")
    outputs = frozenset(results) & set(pointers.values())
    taken = figures(compiled)
    return Program(
        name=name,
        instructions=sass.instructions(dump(compiled.asm["cubin"], "-sass"))[entry.name],
        local_bytes=max(taken["STACK"], taken["LOCAL"]),
        unit=unit,
        written=frozenset(written),
        outputs=outputs,
        stored=_elements(compiled.asm.get("ttir") or compiled.asm["ttgir"]),
        tile=tile * len(outputs),
    )


def _elements(ir: str) -> int:
    """What the stores of Triton's intermediate code write, each taken once."""
    return sum(
        math.prod(map(int, LENGTHS.findall(line)[-1].split("x")[:-1]))
        if LENGTHS.search(line)
        else 1
        for line in IR_STORE.findall(ir)
    )
