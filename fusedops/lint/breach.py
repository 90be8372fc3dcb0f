"""What a rule finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, order=True)
class Breach:
    """A rule broken at a place of a file, or, of compiled code, by a kernel (line 0)."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.rule}: {self.message}"

    def as_json(self) -> dict[str, str | int]:
        return asdict(self)
