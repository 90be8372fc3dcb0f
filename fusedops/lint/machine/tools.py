"""NVIDIA's programs that read machine code: those that Triton ships, or the CUDA toolkit's."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

TOOLKIT = Path("/usr/local/cuda/bin")
Resources = dict[str, int]


class Unchecked(Exception):
    """Why something could not be checked, in words."""


@cache
def find(name: str) -> Path:
    triton = find_spec("triton")
    shipped = []
    if triton is not None and triton.origin is not None:
        shipped = [Path(triton.origin).parent / "backends" / "nvidia" / "bin" / name]
    on_the_path = shutil.which(name)
    for path in (*shipped, TOOLKIT / name, Path(on_the_path or name)):
        if path.is_file():
            return path
    raise Unchecked(
        f"{name} is missing, so there is no machine code to read: Triton ships it (pip install "
        "triton), and so does the CUDA toolkit"
    )


def dump(binary: Path | bytes, *options: str) -> str:
    """What cuobjdump says of a cubin, or of a library."""
    if isinstance(binary, bytes):
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(binary)
            file.flush()
            return dump(Path(file.name), *options)
    done = subprocess.run(
        [find("cuobjdump"), *options, binary],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(find("nvdisasm").parent)},
    )
    if done.returncode:
        raise Unchecked(f"cuobjdump cannot read {binary}: {done.stderr.strip()}")
    return done.stdout


def resources(dumped: str) -> dict[str, Resources]:
    """Of each function, from ``cuobjdump --dump-resource-usage``."""
    found = re.findall(r"Function (\S+):\n\s*(.*)", dumped)
    return {
        name: {key: int(value) for key, value in re.findall(r"([A-Z]+):(\d+)", figures)}
        for name, figures in found
    }
