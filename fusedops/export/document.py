"""The file: imports, the kernel and its functions, the wrapper, ModelNew."""

from __future__ import annotations

import ast
from importlib.metadata import version
from typing import Any

from fusedops.export import wrappers
from fusedops.export.choice import Choice, resident
from fusedops.export.kernels import (
    ENTRY,
    TILE,
    definitions,
    expression,
    run_time_parameters,
    specialization,
)
from fusedops.export.printer import write
from fusedops.registry import dtype_name

IMPORTS = """\
import torch
import torch.nn as nn
import triton
import triton.language as tl
"""

MODEL = '''\
class ModelNew(nn.Module):
    """z = x @ weight.T + bias; y = z + scaling_factor * sigmoid(z): one kernel, one store."""

    def __init__(self, input_size, hidden_size, scaling_factor):
        super().__init__()
        dtype = {dtype}
        self.weight = nn.Parameter(torch.randn(hidden_size, input_size, dtype=dtype))
        self.bias = nn.Parameter(torch.randn(hidden_size, dtype=dtype))
        self.scaling_factor = float(scaling_factor)

    def forward(self, x):
        """x (batch_size, input_size) -> (batch_size, hidden_size), in x's dtype."""
        y = fused_gemm_sigmoid_scale_residual(x, self.weight, self.bias, self.scaling_factor)
        return y.to(x.dtype)
'''


def document(choice: Choice) -> str:
    """The text of the file."""
    special = specialization(choice.kernel.name, choice.problem, choice.configs[0])
    many = len(choice.configs) > 1
    persistent = choice.kernel.name == "triton.persistent_tma"
    varies = many and persistent
    functions = definitions(choice.kernel.name, special, ("RESIDENT",) if varies else ())
    *helpers, kernel = functions
    if many:
        kernel.decorator_list[:0] = _autotuned(choice, "EVEN_K" in special.constants, varies)
    parts = [_header(choice), IMPORTS]
    parts += ["\n".join(write(each)) + "\n" for each in (*helpers, kernel)]
    launch = wrappers.Launch(
        kernel=ENTRY,
        arguments=wrappers.arguments(run_time_parameters(kernel)),
        keywords="" if many else _keywords(choice, special),
        resident='meta["RESIDENT"]' if varies else str(resident(choice.problem, choice.configs[0])),
    )
    parts += wrappers.persistent(launch) if persistent else wrappers.tiled(launch)
    parts.append(MODEL.format(dtype=choice.problem.dtype))
    text = "\n\n".join(parts[2:])
    return f"{parts[0]}\n{parts[1]}\n\n{text}"


def _header(choice: Choice) -> str:
    """One line: the kernel, its configuration, the target, what made the file."""
    problem, configs = choice.problem, choice.configs
    config = configs[0] if len(configs) == 1 else f"({len(configs)} configurations)"
    major, minor = choice.card.capability
    return (
        f"# {choice.kernel.name} {config}: sm_{major}{minor}, {dtype_name(problem.dtype)}, "
        f"{problem.m}x{problem.n}x{problem.k}; fusedops {version('fusedops')}\n"
    )


def _meta(choice: Choice, config: Any) -> dict[str, Any]:
    constants = specialization(choice.kernel.name, choice.problem, config).constants
    return {name: constants[name] for name in TILE}


def _keywords(choice: Choice, special: Any) -> str:
    """What is fixed at compile time, as the wrapper passes it."""
    (config,) = choice.configs
    meta = _meta(choice, config)
    words = [f"{name}={value}" for name, value in meta.items()]
    if "EVEN_K" in special.constants:
        words.insert(0, f"EVEN_K=K % {meta['BLOCK_K']} == 0")
    return ", ".join([*words, f"num_warps={config.num_warps}", f"num_stages={config.num_stages}"])


def _autotuned(choice: Choice, even_k: bool, varies: bool) -> list[ast.expr]:
    configs = []
    for config in choice.configs:
        meta = _meta(choice, config)
        if varies:
            meta["RESIDENT"] = resident(choice.problem, config)
        configs.append(
            f"triton.Config({meta}, num_warps={config.num_warps}, num_stages={config.num_stages})"
        )
    decorators = [f"triton.autotune(configs=[{', '.join(configs)}], key=['M', 'N', 'K'])"]
    if even_k:
        decorators.append(
            "triton.heuristics({'EVEN_K': lambda args: args['K'] % args['BLOCK_K'] == 0})"
        )
    return [expression(each) for each in decorators]
