"""The compiled instances of a CUDA C++ kernel, as the library holds them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from fusedops import native
from fusedops.lint.machine import ptx, sass
from fusedops.lint.machine.program import UNITS, Program, writes_z
from fusedops.lint.machine.tools import Resources, Unchecked, dump, resources
from fusedops.registry import Kernel, Problem

LIBRARY = native.LIBRARIES / "libfusedops_kernels.so"
OUTPUTS = ("its output", "its second output")
PREFIX = "gemm_sig_res_"
UNTRACED = "the library has no PTX of it, in which stores are traced to the output: only counted"
GENERIC = (
    "some of its stores (ST) name memory that may be the cluster's or the card's: the machine code "
    "does not tell which"
)


def programs(kernel: Kernel, problem: Problem) -> Iterator[Program]:
    """Those that take a problem."""
    if not LIBRARY.exists():
        raise Unchecked(f"{LIBRARY.name} was not built: see `python -m fusedops doctor`")
    assert problem.capability is not None
    architecture = "sm_{}{}".format(*problem.capability)
    code, figures = _machine_code(architecture)
    for config in kernel.configs(problem):
        function = entry_name(kernel.name, str(config), list(code))
        if function is None:
            raise Unchecked(f"{LIBRARY.name} has no code of {config} for {architecture}")
        unit = (kernel.summation(problem, config) or "").split("_", maxsplit=1)[0]
        instructions = code[function]
        outputs = OUTPUTS[: 1 + writes_z(kernel)]
        written, notes = _traced(function, outputs)
        if instructions["ST"]:
            notes += (GENERIC,)
        yield Program(
            name=f"{kernel.name} {config}",
            instructions=instructions,
            local_bytes=max(figures[function]["STACK"], figures[function]["LOCAL"]),
            unit=unit if unit in UNITS else "fma",
            written=written,
            outputs=frozenset(outputs),
            notes=notes,
        )


def entry_name(kernel: str, label: str, functions: list[str]) -> str | None:
    """The function of an instance: they are called gemm_sig_res_KERNEL_LABEL, more or less."""
    labelled = [each for each in functions if each.endswith(f"_{label}")]
    short = kernel.removeprefix("cuda.")
    exact = [each for each in labelled if each == f"{PREFIX}{short}_{label}"]
    family = [each for each in labelled if each == f"{PREFIX}{short.split('_')[0]}_{label}"]
    return next(iter(exact or family or labelled), None)


@cache
def _machine_code(architecture: str) -> tuple[dict[str, Counter[str]], dict[str, Resources]]:
    code: dict[str, Counter[str]] = {}
    figures: dict[str, Resources] = {}
    for exact in set(re.findall(rf"\b({architecture}a?)\.cubin", dump(LIBRARY, "--list-elf"))):
        code.update(sass.instructions(dump(LIBRARY, "-arch", exact, "-sass")))
        figures.update(resources(dump(LIBRARY, "-arch", exact, "--dump-resource-usage")))
    return code, figures


@cache
def _ptx() -> dict[str, ptx.Entry]:
    return ptx.entries(dump(LIBRARY, "-ptx"))


def _traced(
    function: str, outputs: tuple[str, ...]
) -> tuple[frozenset[str] | None, tuple[str, ...]]:
    """The pointers stored through: outputs are as many fields of the arguments, never loaded."""
    entry = _ptx().get(function)
    if entry is None:
        return None, (UNTRACED,)
    pointers = entry.converted()
    stores = entry.select(ptx.STORES, ptx.GENERIC_STORES)
    loads = entry.select(ptx.LOADS, ptx.COPIES)
    stored = {origin for each in stores for origin in entry.origins(each.address)} & pointers
    loaded = {origin for each in loads for origin in entry.origins(each.address)}
    names = {f"byte {offset} of its arguments, also loaded" for _, offset in stored & loaded}
    others = sorted(stored - loaded)
    names.update(name for name, _ in zip(outputs, others, strict=False))
    names.update(f"byte {offset} of its arguments" for _, offset in others[len(outputs) :])
    return frozenset(names), ()
