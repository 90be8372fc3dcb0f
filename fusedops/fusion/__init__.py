"""Put the operator into models that are written without it.

``fuse`` rewrites a model's modules, found with torch.fx; ``compile_backend`` and ``FusingBackend``
rewrite the graphs that torch.compile captures. Both look for one pattern, with one matcher.
"""

from fusedops.fusion.compile import FusingBackend, compile_backend
from fusedops.fusion.model import Fused, fuse, unfuse
from fusedops.fusion.report import Left, Replaced, Report

__all__ = [
    "Fused",
    "FusingBackend",
    "Left",
    "Replaced",
    "Report",
    "compile_backend",
    "fuse",
    "unfuse",
]
