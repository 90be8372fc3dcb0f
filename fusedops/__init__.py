"""One fused operator, y = z + scale * sigmoid(z) with z = x @ weight.T + bias, done well.

Importing needs no GPU, no Triton and no compiled library: each is looked for when a call needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fusedops import settings
from fusedops.functional import explain, gemm_sig_res, prepare
from fusedops.modules import GemmSigRes
from fusedops.override import batch_invariant, use_backend
from fusedops.registry import NoKernelError

if TYPE_CHECKING:
    from fusedops.fusion import FusingBackend, compile_backend, fuse, unfuse

__version__ = "0.1.0"
__all__ = [
    "FusingBackend",
    "GemmSigRes",
    "NoKernelError",
    "batch_invariant",
    "compile_backend",
    "explain",
    "fuse",
    "gemm_sig_res",
    "prepare",
    "unfuse",
    "use_backend",
]


def __getattr__(name: str) -> Any:
    """What most programs do not use is imported when it is asked for."""
    if name in ("FusingBackend", "compile_backend", "fuse", "unfuse"):
        return getattr(import_module("fusedops.fusion"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


settings.warn_of_unknown()
