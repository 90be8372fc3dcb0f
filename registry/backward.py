"""The problem of the operator's gradient with respect to z: a pass over (m, n), and its sums."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .problem import Problem, dtype_name


@dataclass(frozen=True, slots=True)
class BackwardProblem(Problem):
    """One call: grad (m, n), and y or z (m, n), contiguous and of one dtype; k is 0.

    ``steps`` is the number of steps that recover z from y, 0 where z itself was kept.
    ``wants_dz`` asks for the gradient of z, (m, n). ``bias_dtype`` is that of the wanted sums over
    rows, (n,), None for none; ``wants_dscale`` asks for the scale's gradient, one element of
    ``scale_dtype``.
    """

    steps: int = 0
    wants_dz: bool = True
    wants_dscale: bool = False
    op: str = "gemm_sig_res_backward"

    def __str__(self) -> str:
        wanted = ["dz"] if self.wants_dz else []
        if self.bias_dtype is not None:
            wanted.append(f"dbias in {dtype_name(self.bias_dtype)}")
        wanted += ["dscale"] if self.wants_dscale else []
        source = f"y, z in {self.steps} steps" if self.steps else "z"
        where = self.device
        if self.capability is not None:
            where += f" sm_{self.capability[0]}{self.capability[1]}"
        name = f" ({self.device_name})" if self.device_name else ""
        return (
            f"{self.op}: grad ({self.m}, {self.n}) {dtype_name(self.dtype)}, from {source}: "
            f"{', '.join(wanted)}, on {where}{name}"
        )


def backward_problem(
    m: int,
    n: int,
    dtype: torch.dtype,
    *,
    steps: int,
    wants_dz: bool = True,
    bias_dtype: torch.dtype | None = None,
    wants_dscale: bool = False,
    scale_dtype: torch.dtype | None = None,
    **device_facts: object,
) -> BackwardProblem:
    """The problem of these sizes; ``device_facts`` are the fields that the device fills."""
    return BackwardProblem(
        m=m,
        n=n,
        k=0,
        dtype=dtype,
        bias_dtype=bias_dtype,
        x_strides=(n, 1),
        weight_strides=(n, 1),
        steps=steps,
        wants_dz=wants_dz,
        wants_dscale=wants_dscale,
        scale_dtype=scale_dtype,
        **device_facts,  # type: ignore[arg-type]
    )
