"""One fused operator, y = z + scale * sigmoid(z) with z = x @ weight.T + bias, done well.

Importing needs no GPU, no Triton and no compiled library: each is looked for when a call needs it.
"""

from fusedops import settings
from fusedops.functional import explain, gemm_sig_res, prepare
from fusedops.fusion import FusingBackend, compile_backend, fuse, unfuse
from fusedops.modules import GemmSigRes
from fusedops.override import batch_invariant, use_backend
from fusedops.registry import NoKernelError

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

settings.warn_of_unknown()
