"""What a run found: one value, as text for a person or as JSON for a file."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from fusedops import __version__
from fusedops.verify.exhaustive import EpilogueError, as_markdown
from fusedops.verify.failure import Failure
from fusedops.verify.runner import Plan, Tally


@dataclass(slots=True)
class Report:
    """Everything a run saw; it passed if it has no complaint."""

    plan: Plan
    tallies: list[Tally] = field(default_factory=list)
    epilogue: list[EpilogueError] = field(default_factory=list)
    epilogue_failures: list[Failure] = field(default_factory=list)
    fatal: str | None = None

    @property
    def complaints(self) -> list[str]:
        found = [tally.complaint for tally in self.tallies if tally.complaint]
        found += [str(failure) for failure in self.epilogue_failures]
        if not found and not any(tally.examples for tally in self.tallies) and not self.epilogue:
            found.append("nothing was exercised")
        return found if self.fatal is None else [*found, self.fatal]

    def as_text(self) -> str:
        parts = [table(_rows(self.tallies)), *(_absences(self.tallies))]
        if self.epilogue:
            parts.append(
                "\nThe epilogue over all 65,536 values of z:\n" + as_markdown(self.epilogue)
            )
        parts += [f"\nFAILED {complaint}" for complaint in self.complaints]
        return "\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": not self.complaints,
            "seed": self.plan.seed,
            "examples": self.plan.examples,
            "environment": environment(self.plan.device),
            "kernels": [_tally_as_json(tally) for tally in self.tallies],
            "epilogue": [
                {name: getattr(row, name) for name in row.__slots__} for row in self.epilogue
            ],
            "complaints": self.complaints,
        }


def environment(device: torch.device) -> dict[str, str | None]:
    """Where the numbers come from."""
    try:
        from triton import __version__ as triton
    except ImportError:
        triton = None
    card = device.type == "cuda"
    return {
        "fusedops": __version__,
        "torch": torch.__version__,
        "triton": triton,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if card else platform.machine(),
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _rows(tallies: Sequence[Tally]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("subject", "of", "examples", "refused", "configs", "worst error / bound")
    ]
    for tally in tallies:
        if tally.absent is None:
            worst = "  ".join(f"{name} {value:.3f}" for name, value in sorted(tally.worst.items()))
            counts = (tally.examples, tally.refused, len(tally.configs) or "")
            rows.append((tally.subject, tally.backend, *map(str, counts), worst))
    return rows


def _absences(tallies: Sequence[Tally]) -> list[str]:
    return [f"not here: {tally.subject}: {tally.absent}" for tally in tallies if tally.absent]


def _tally_as_json(tally: Tally) -> dict[str, Any]:
    return {
        "subject": tally.subject,
        "backend": tally.backend,
        "examples": tally.examples,
        "refused": tally.refused,
        "configs": sorted(tally.configs),
        "worst_error_over_bound": tally.worst,
        "worst_case": tally.worst_case,
        "absent": tally.absent,
        "failure": None if tally.failure is None else tally.failure.reason,
        "replay": None if tally.failure is None else tally.failure.replay,
    }
