"""triton.tiled compiled for sm_89, so on mma.sync, and assembled for the card at hand.

One cubin per configuration and an index: name, entry, block_m, block_n, block_k, warps, bytes of
shared memory. A program without Triton launches them: contenders.cuh.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import torch

from fusedops.registry import Problem
from fusedops.registry.problem import RTX_4090
from fusedops.triton_kernels import tiled
from fusedops.triton_kernels.config import Config

CONFIGS = (
    Config(128, 128, 64, 8, 3),
    Config(128, 128, 32, 8, 4),
    Config(128, 128, 32, 4, 4),
    Config(128, 256, 32, 8, 4),
    Config(128, 256, 32, 8, 5),
    Config(256, 128, 32, 8, 4),
    Config(128, 64, 64, 4, 3),
    Config(64, 128, 64, 4, 3),
    Config(64, 64, 64, 4, 4),
    Config(32, 64, 128, 4, 3),
)


def compile_all(folder: Path, architecture: str) -> None:
    """Write the cubins for an architecture such as "sm_90", and the index."""
    folder.mkdir(parents=True, exist_ok=True)
    bfloat16 = torch.bfloat16
    problem = Problem.contiguous(4096, 4096, 4096, bfloat16, bias_dtype=bfloat16, card=RTX_4090)
    lines = []
    for config in CONFIGS:
        compiled = tiled.specialization(problem, config).compile(RTX_4090.capability)
        ptx = compiled.asm["ptx"]
        entry = re.search(r"\.entry (\w+)", ptx)
        assert entry is not None
        source = folder / f"{config}.ptx"
        source.write_text(ptx)
        cubin = folder / f"{config}.cubin"
        subprocess.run(["ptxas", f"-arch={architecture}", source, "-o", cubin], check=True)
        tile = f"{config.block_m} {config.block_n} {config.block_k}"
        shared = compiled.metadata.shared
        lines.append(f"{config} {entry[1]} {tile} {config.num_warps} {shared}\n")
    (folder / "index.txt").write_text("".join(lines))
