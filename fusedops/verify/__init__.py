"""The properties every kernel must have, runnable on any machine from the installed package.

docs/verification.md says what is checked and why. Nothing here is imported by the operator itself.
"""

from fusedops.verify.case import Case
from fusedops.verify.failure import DeviceLost, Failure
from fusedops.verify.properties import check_kernel, check_op

__all__ = ["Case", "DeviceLost", "Failure", "check_kernel", "check_op"]
