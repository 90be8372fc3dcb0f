"""What was replaced, what was left, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import fx

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_NOT_THE_USERS = ("/torch/", "/fusedops/")


def at(node: fx.Node) -> str:
    """`` at model.py:12``, where the graph knows the line that made ``node``."""
    for path, line in reversed(_FRAME.findall(node.stack_trace or "")):
        if not any(part in path for part in _NOT_THE_USERS):
            return f" at {Path(path).name}:{line}"
    return ""


@dataclass(frozen=True)
class Replaced:
    """One ``z + scale * sigmoid(z)`` that is now one call of the operator."""

    module: str  # whose forward holds it
    linear: str  # what computes z
    scale: float | str  # a number, or the name of the tensor that holds it

    def __str__(self) -> str:
        return f"{self.module or 'the model'}: {self.linear}, scale {self.scale}"


@dataclass(frozen=True)
class Left:
    """One sigmoid, or one module, that stays as it was, with every reason."""

    module: str
    what: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{self.module or 'the model'}: {self.what}"
        return "\n".join([head, *(f"    - {reason}" for reason in self.reasons)])


@dataclass(frozen=True)
class Report:
    replaced: tuple[Replaced, ...] = ()
    left: tuple[Left, ...] = ()

    def __str__(self) -> str:
        lines = [f"replaced: {len(self.replaced)}", *(f"  {each}" for each in self.replaced)]
        lines.append(f"left: {len(self.left)}")
        lines += [f"  {line}" for each in self.left for line in str(each).splitlines()]
        return "\n".join(lines)
