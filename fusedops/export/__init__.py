"""A kernel of the registry as one file that needs PyTorch and Triton alone (docs/export.md)."""

from fusedops.export.check import Compiled, compiled
from fusedops.export.choice import Choice, Refused, choose
from fusedops.export.document import document

__all__ = ["Choice", "Compiled", "Refused", "choose", "compiled", "document"]
