"""The file before anyone has it: what Triton compiles it to, held to the linter's rules."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from fusedops import settings
from fusedops.export.choice import Choice
from fusedops.export.kernels import ENTRY, KERNELS, SIZES, TILE, specialization
from fusedops.lint.machine import triton_programs
from fusedops.lint.machine.program import UNITS, Program
from fusedops.lint.machine.tools import Unchecked, dump, resources

OPERANDS = ("x", "weight", "bias", "out")
OUTPUTS = ("out", "out_ptr")
MADE = re.compile(r"(%[\w#]+) = tt\.make_tensor_descriptor %(\w+)")
STORED_BY_DESCRIPTOR = re.compile(r"tt\.descriptor_store (%[\w#]+)")


@dataclass(frozen=True)
class Compiled:
    """One configuration's machine code: registers of a thread, bytes of shared memory of a block,
    and every breach of the rules for compiled kernels."""

    config: str
    registers: int
    shared: int
    breaches: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.config}: {self.registers} registers, {self.shared} bytes of shared memory"


def compiled(text: str, choice: Choice) -> Iterator[Compiled]:
    """Every configuration, compiled for the target. Raises Unchecked where that cannot be."""
    if settings.triton_interpreter():
        raise Unchecked("TRITON_INTERPRET is set, and what is interpreted is not compiled")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported.py"
        path.write_text(text)
        function = jit_function(load(path))
        for config in choice.configs:
            yield _compile(function, choice, config)


def load(path: Path) -> ModuleType:
    """The file as a module of its own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def jit_function(module: ModuleType) -> Any:
    """The kernel of an exported file, without the autotuner and the heuristics around it."""
    from triton.runtime import JITFunction

    function = getattr(module, ENTRY)
    while not isinstance(function, JITFunction):
        function = function.fn
    return function


def _compile(function: Any, choice: Choice, config: Any) -> Compiled:
    from fusedops.triton_kernels.launch import Specialization, pointer

    problem, capability = choice.problem, choice.card.capability
    own = specialization(choice.kernel.name, problem, config)
    open_ = (*TILE, *KERNELS[choice.kernel.name].at_run_time)
    constants = {name: value for name, value in own.constants.items() if name in open_}
    compile_time = {each.name for each in function.params if each.is_constexpr}
    if "RESIDENT" in compile_time:
        constants["RESIDENT"] = 1
    types = {"scale": "fp32"}
    for name in function.arg_names:
        operand = name.removesuffix("_ptr") in OPERANDS
        known = own.types.get(name, "i64") if name in SIZES else "i32"
        types.setdefault(name, pointer(problem.dtype) if operand else known)
    special = Specialization(
        function=function,
        types={name: types[name] for name in function.arg_names if name not in compile_time},
        constants=constants,
        divisors={name: 16 for name in types if name != "scale" and name not in constants},
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
    machine = special.compile(capability)
    summation = str(choice.kernel.summation(problem, config)).split("_")
    unit = next(word for word in summation if word in UNITS)
    tile = config.block_m * config.block_n
    program = triton_programs.program(str(config), special, machine, unit, tile, OUTPUTS)
    if machine.metadata.global_scratch_size:
        program = _by_its_own_descriptors(program, machine.asm["ttir"])
    figures = resources(dump(machine.asm["cubin"], "--dump-resource-usage"))
    return Compiled(
        config=str(config),
        registers=figures[machine.metadata.name]["REG"],
        shared=machine.metadata.shared,
        breaches=tuple(str(each) for each in program.breaches()),
    )


def _by_its_own_descriptors(program: Program, ir: str) -> Program:
    """What is stored through a descriptor that the kernel makes, from Triton's intermediate code.

    The descriptor itself reaches the launch's workspace in one atomic exchange.
    """
    made = dict(MADE.findall(ir))
    stored = frozenset(made.get(name, name) for name in STORED_BY_DESCRIPTOR.findall(ir))
    return replace(
        program,
        written=stored or program.written,
        instructions=program.instructions - Counter({"ATOMG": len(made)}),
    )
