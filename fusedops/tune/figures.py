"""What a compiled candidate takes: from the loaded kernel, or, without a card, from the binary."""

from __future__ import annotations

from typing import Any

import torch

from fusedops import native
from fusedops.lint.machine import triton_programs
from fusedops.lint.machine.tools import Unchecked
from fusedops.registry import Kernel, Problem
from fusedops.tune.occupancy import Compiled, resources
from fusedops.tune.trial import Resources


def of_loaded(kernel: Kernel, problem: Problem, config: Any) -> Resources:
    """Of a kernel on the current device, compiled and loaded if it was not yet."""
    if kernel.backend == "triton":
        return resources(_loaded_triton(kernel, problem, config), _capability(problem))
    return of_target(kernel, problem, config)


def of_target(kernel: Kernel, problem: Problem, config: Any) -> Resources:
    """Of a kernel compiled for the problem's card, which need not be here."""
    capability = _capability(problem)
    if kernel.backend == "triton":
        return resources(_compiled_triton(kernel, problem, config), capability)
    if kernel.backend == "cuda":
        return resources(_compiled_cuda(kernel, problem, config), capability)
    raise Unchecked(f"{kernel.name} is no code for a card")


def _capability(problem: Problem) -> tuple[int, int]:
    if problem.capability is None:
        raise Unchecked("the problem is of no card")
    return problem.capability


def _loaded_triton(kernel: Kernel, problem: Problem, config: Any) -> Compiled:
    from fusedops.triton_kernels import driver, launch

    special = triton_programs.specialization(kernel, problem, config)
    code = launch.load(special, _capability(problem), torch.cuda.current_device())
    return Compiled(
        registers=driver.attribute(code.function, driver.REGISTERS),
        local_bytes=driver.attribute(code.function, driver.LOCAL_BYTES),
        shared_bytes=code.shared + driver.attribute(code.function, driver.STATIC_SHARED_BYTES),
        threads=code.threads,
    )


def _compiled_triton(kernel: Kernel, problem: Problem, config: Any) -> Compiled:
    from fusedops.triton_kernels.config import WARP

    special = triton_programs.specialization(kernel, problem, config)
    compiled = special.compile(_capability(problem))
    taken = triton_programs.figures(compiled)
    return Compiled(
        registers=taken["REG"],
        local_bytes=max(taken["STACK"], taken["LOCAL"]),
        shared_bytes=compiled.metadata.shared,
        threads=WARP * compiled.metadata.num_warps,
    )


def _compiled_cuda(kernel: Kernel, problem: Problem, config: Any) -> Compiled:
    """As the compiler said when the library was built."""
    catalogue = native.catalogue()
    if catalogue is None:
        raise Unchecked(f"there is no catalogue of the CUDA kernels: {native.why_no_cuda()}")
    every = (*catalogue.instances(), *catalogue.backward_instances())
    instance = next(
        each for each in every if (each.kernel, each.label) == (kernel.name, f"{config}")
    )
    wanted = "sm_{}{}".format(*_capability(problem))
    for built in instance.resources:
        if built["arch"].rstrip("af") == wanted:
            return Compiled(
                registers=built["registers"],
                local_bytes=built["spill_bytes"],
                shared_bytes=built["static_shared"] + getattr(instance, "shared_memory", 0),
                threads=instance.threads,
            )
    raise Unchecked(f"{kernel.name} {config} was not compiled for {wanted}")
