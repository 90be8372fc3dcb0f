"""The rules that a Triton source file is held to, by its syntax tree; compiled code in `machine`.

docs/lint.md lists them. Reading a file needs neither Triton nor a card.
"""

from fusedops.lint.breach import Breach
from fusedops.lint.check import SYNTAX, as_markdown, check_file, check_text, uses_triton
from fusedops.lint.rules import RULES

__all__ = ["RULES", "SYNTAX", "Breach", "as_markdown", "check_file", "check_text", "uses_triton"]
