"""One compiled program, and the rules for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from fusedops.lint.breach import Breach
from fusedops.lint.machine import sass
from fusedops.registry import Kernel, Problem

UNITS: Mapping[str, tuple[str, ...]] = {
    "wgmma": ("HGMMA",),
    "mma": ("HMMA",),
    "fma": ("FFMA", "DFMA", "DMMA"),
    "bf16x6": ("HGMMA",),
}
"""The instructions of the products, by the first word of a kernel's order of summation."""


def writes_z(kernel_or_problem: Kernel | Problem) -> bool:
    """Whether z can be, or is, stored as a second result."""
    return kernel_or_problem.writes_z


@dataclass(frozen=True)
class Program:
    """name: of the kernel and its configuration. instructions: of its machine code.

    local_bytes: of each thread, where spilled registers go. unit: of the products, as above.
    written, where it could be traced: the parameters that addresses of stores come from; outputs:
    those that may be. stored: elements that the stores of the code, each taken once, write of a
    tile; tile: elements that they should. notes: what could not be told.
    """

    name: str
    instructions: Counter[str]
    local_bytes: int
    unit: str
    written: frozenset[str] | None = None
    outputs: frozenset[str] = frozenset()
    stored: int | None = None
    tile: int | None = None
    notes: tuple[str, ...] = field(default=())

    def breaches(self) -> list[Breach]:
        return [
            Breach(self.name, 0, rule, message)
            for rule, check in RULES.items()
            for message in check(self)
        ]

    def count(self, names: tuple[str, ...]) -> Counter[str]:
        return Counter({name: self.instructions[name] for name in names if self.instructions[name]})


def global_stores(program: Program) -> Iterator[str]:
    if not program.count(sass.GLOBAL_STORES):
        yield "there is no store to global memory in its machine code"
    for name, count in program.count(sass.ATOMICS).items():
        yield f"{count} atomic operations ({name}): an output is stored, once"
    if program.written is None:
        return
    for name in sorted(program.written - program.outputs):
        yield f"an address that is stored to comes from {name}, which is no output"
    for name in sorted(program.outputs - program.written):
        yield f"nothing is stored to {name}"
    if program.stored != program.tile:
        yield (
            f"its stores write {program.stored} elements for a tile whose outputs have "
            f"{program.tile}: each is stored once"
        )


def spills(program: Program) -> Iterator[str]:
    if program.local_bytes:
        yield f"registers spill: {program.local_bytes} bytes of local memory a thread"
    for name, count in program.count(sass.SPILLS).items():
        yield f"registers spill: {count} {name} in its machine code"


def tensor_cores(program: Program) -> Iterator[str]:
    expected = UNITS[program.unit]
    if not program.count(expected):
        yield f"no {' or '.join(expected)}, which {program.unit} products are"
    others = tuple(name for name in sass.TENSOR if name not in expected)
    for name, count in program.count(others).items():
        yield f"{count} {name}, where {program.unit} products are {' or '.join(expected)}"


RULES: dict[str, Callable[[Program], Iterator[str]]] = {
    "global-stores": global_stores,
    "spills": spills,
    "tensor-cores": tensor_cores,
}
