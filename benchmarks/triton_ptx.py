"""Write the machine code of a Triton kernel's configurations, for a card that need not be here.

    python benchmarks/triton_ptx.py --kernel triton.tiled --card sm_89 --shape 4096x4096x4096 OUT

For every configuration of the problem: NAME.ptx, NAME.cubin, and in index.json the entry's name,
its threads, its shared memory and its parameters in order: all that a launch by the driver
needs. PTX for sm_89 runs on later cards too: on 9.0 it shows what mma.sync reaches there.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

from fusedops.registry import Problem
from fusedops.registry.problem import CARDS
from fusedops.triton_kernels import KERNELS


def dump(kernel: str, problem: Problem, folder: Path) -> None:
    """Compile every configuration of a kernel for a problem into ``folder``."""
    chosen = next(each for each in KERNELS if each.name == kernel)
    reasons = chosen.why_not(problem)
    if reasons:
        raise SystemExit(f"{kernel}: {reasons[0]}")
    module = import_module(f"fusedops.{kernel.replace('triton.', 'triton_kernels.')}")
    index = {}
    folder.mkdir(parents=True, exist_ok=True)
    for config in chosen.configs(problem):
        special = module.specialization(problem, config)
        compiled = special.compile(problem.capability)
        (folder / f"{config}.ptx").write_text(compiled.asm["ptx"])
        (folder / f"{config}.cubin").write_bytes(compiled.asm["cubin"])
        index[str(config)] = {
            "entry": compiled.metadata.name,
            "blocks": config.tiles(problem),
            "threads": 32 * compiled.metadata.num_warps,
            "shared_memory": compiled.metadata.shared,
            "parameters": special.parameters,
        }
        print(f"{config}: {compiled.metadata.shared} bytes of shared memory")
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", default="triton.tiled", choices=[k.name for k in KERNELS])
    parser.add_argument("--card", default="sm_89", choices=CARDS)
    parser.add_argument("--shape", default="4096x4096x4096", help="MxNxK")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--tf32", action="store_true", help="allow TF32 for float32")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    m, n, k = map(int, arguments.shape.split("x"))
    dtype = getattr(torch, arguments.dtype)
    problem = Problem.contiguous(m, n, k, dtype, bias_dtype=dtype, card=CARDS[arguments.card])
    if arguments.tf32:
        problem = replace(problem, fp32_precision="tf32")
    dump(arguments.kernel, problem, arguments.folder)


if __name__ == "__main__":
    main()
