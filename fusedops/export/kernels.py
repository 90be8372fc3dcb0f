"""Which kernels can be a file of their own, and what each becomes there.

The code is the kernel's own (specialize.py); the wrapper that launches it is text. A kernel that
takes its operands as tensor descriptors makes them itself, from pointers: the host's descriptors
would be another import.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from fusedops.export.specialize import Specializer
from fusedops.registry import Problem
from fusedops.triton_kernels.config import Config

ENTRY = "fused_gemm_sigmoid_scale_residual_kernel"
TILE = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "GROUP_M")
SIZES = ("M", "N", "K")
BATCH = "M"
"""Nothing is compiled anew for another."""


@dataclass(frozen=True)
class Described:
    """An operand behind a tensor descriptor, in the kernel's own names."""

    shape: tuple[str, str]
    row_stride: str
    box: tuple[str, str]


@dataclass(frozen=True)
class Exportable:
    """A kernel of the registry, as code without the package.

    at_run_time: parameters that the registry compiles in, and a file must leave open. fixed:
    constants that differ from the registry's, with what the file leaves out. descriptors: of the
    operands that can be described.
    """

    module: str
    at_run_time: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    descriptors: Mapping[str, Described] = field(default_factory=dict)


KERNELS = {
    "triton.tiled": Exportable(
        "tiled", at_run_time=("EVEN_K", "stride_xm", "stride_xk", "stride_wn", "stride_wk")
    ),
    "triton.persistent_tma": Exportable(
        "persistent_tma",
        fixed={"OVERLAP": False},  # it takes a launch that Triton's own launcher does not make
        descriptors={
            "x": Described(("M", "K"), "stride_xm", ("BLOCK_M", "BLOCK_K")),
            "weight": Described(("N", "K"), "stride_wn", ("BLOCK_N", "BLOCK_K")),
            "out": Described(("M", "N"), "stride_om", ("BLOCK_M", "BLOCK_N // PIECES")),
        },
    ),
}


def specialization(name: str, problem: Problem, config: Config) -> Any:
    """What the package itself would compile."""
    module = import_module(f"fusedops.triton_kernels.{KERNELS[name].module}")
    return module.specialization(problem, config)


def described(name: str, special: Any) -> dict[str, Described]:
    """The operands that this specialization takes as tensor descriptors."""
    known = KERNELS[name].descriptors
    return {
        operand: known[operand]
        for operand, kind in special.types.items()
        if kind.startswith("tensordesc")
    }


def definitions(name: str, special: Any, more: tuple[str, ...]) -> list[ast.FunctionDef]:
    """The kernel and its functions, for a specialization's constants other than the tile's.

    more: compile-time parameters that only the grid reads.
    """
    exportable = KERNELS[name]
    open_ = (*TILE, *exportable.at_run_time)
    constants = {key: value for key, value in special.constants.items() if key not in open_}
    constants |= exportable.fixed
    specializer = Specializer()
    present = set(special.types) - set(constants)
    kernel = specializer.entry(special.function, constants, present, ENTRY)
    for parameter in kernel.args.args:
        if parameter.arg in SIZES:
            parameter.annotation = expression(f"tl.int{special.types[parameter.arg][1:]}")
    _describe(kernel, described(name, special), special.constants)
    kernel.args.args += [ast.arg(each, expression("tl.constexpr")) for each in more]
    kernel.decorator_list = [expression(f"triton.jit(do_not_specialize=[{BATCH!r}])")]
    return specializer.functions


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def run_time_parameters(kernel: ast.FunctionDef) -> list[str]:
    """The parameters that are no constexpr."""
    annotated = [(each.arg, each.annotation) for each in kernel.args.args]
    return [
        name
        for name, annotation in annotated
        if annotation is None or ast.unparse(annotation) != "tl.constexpr"
    ]


def _describe(
    kernel: ast.FunctionDef, operands: Mapping[str, Described], constants: Mapping[str, Any]
) -> None:
    """Let the kernel take pointers and strides, and make the descriptors first."""
    made = []
    for name, operand in operands.items():
        box = ", ".join(operand.box).replace("PIECES", str(constants.get("PIECES")))
        shape = ", ".join(operand.shape)
        line = (
            f"{name} = tl.make_tensor_descriptor("
            f"{name}_ptr, [{shape}], [{operand.row_stride}, 1], [{box}])"
        )
        made += ast.parse(line.replace(" // 1]", "]")).body
    parameters = kernel.args.args
    for parameter in parameters:
        if parameter.arg in operands:
            parameter.arg += "_ptr"
    behind = 1 + max(i for i, each in enumerate(parameters) if each.arg in SIZES)
    parameters[behind:behind] = [ast.arg(operand.row_stride) for operand in operands.values()]
    kernel.body[:0] = made
