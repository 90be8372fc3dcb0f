"""The compiled parts of the package: what was built, and why the rest cannot be loaded."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType

import torch

LIBRARIES = Path(__file__).parent / "lib"
CPU_LIBRARY = LIBRARIES / "libfusedops_torch_cpu.so"
CUDA_LIBRARY = LIBRARIES / "libfusedops_torch_cuda.so"


@cache
def catalogue() -> ModuleType | None:
    """The pybind11 catalogue of compiled kernels, or None where it was not built."""
    module = _import_catalogue()
    return None if isinstance(module, str) else module


@cache
def _import_catalogue() -> ModuleType | str:
    """The module, or the sentence that says why there is none."""
    if not any(Path(__file__).parent.glob("_catalogue*.so")):
        return (
            "the CUDA C++ backend was not built: it needs nvcc and the headers of the package "
            "nvidia-cutlass when fusedops is installed"
        )
    try:
        from fusedops import _catalogue
    except ImportError as error:
        return f"the catalogue of compiled kernels cannot be loaded: {error}"
    module: ModuleType = _catalogue
    return module


@cache
def load(library: Path) -> str | None:
    """Load a library's operators; the reason it cannot be, or None."""
    if not library.exists():
        return f"{library.name} was not built: see `python -m fusedops doctor`"
    try:
        torch.ops.load_library(str(library))
    except (OSError, RuntimeError) as error:
        return f"{library.name} cannot be loaded: {error}"
    return None


def why_no_cpu() -> str | None:
    """Why the C++ CPU backend cannot run here, or None."""
    return load(CPU_LIBRARY)


def why_no_cuda() -> str | None:
    """Why the CUDA C++ backend cannot run here, or None."""
    module = _import_catalogue()
    if isinstance(module, str):
        return module
    if not module.instances():
        return (
            "the CUDA C++ backend was left out when fusedops was built: FUSEDOPS_CUDA=OFF, "
            "no nvcc or no CUTLASS"
        )
    if torch.version.cuda is None:
        return "this build of PyTorch has no CUDA"
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device or driver"
    return load(CUDA_LIBRARY)
