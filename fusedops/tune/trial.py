"""What a search leaves behind: each candidate that was tried, why, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Shape = tuple[int, int, int]

BASELINE, TILES, WARPS_AND_STAGES = "baseline", "tiles", "warps and stages"
ADOPTED, REVERTED, WRONG, FAILED, COMPUTED = "adopted", "reverted", "wrong", "failed", "computed"


@dataclass(frozen=True)
class Resources:
    """What one compiled candidate takes of one card.

    registers, local_bytes: of a thread; local_bytes are spills. shared_bytes, threads: of a block.
    blocks: that fit a multiprocessor; limiter: what allows no more of them, "registers",
    "shared memory", "threads" or "blocks". occupancy: warps resident, of those the card holds.
    """

    registers: int
    local_bytes: int
    shared_bytes: int
    threads: int
    blocks: int
    limiter: str
    occupancy: float


@dataclass(frozen=True)
class Trial:
    """One candidate, tried.

    dtype: the arithmetic, as in a table: the operands' dtype, or "tf32". stage: ``BASELINE``,
    ``TILES`` or ``WARPS_AND_STAGES``. reason: the rule that asked for it, and the numbers that
    caused it. error_over_bound: at most 1 for a correct kernel. incumbent_microseconds: of the best
    so far, in the same run; noise: the half width of the interval around the ratio of the two times
    that holds it with 95 % confidence, as a fraction. estimate: the kernel's own modelled time, of
    which ratios alone mean anything. verdict: ``ADOPTED``, ``REVERTED``, ``WRONG``, ``FAILED``, or
    ``COMPUTED`` where nothing was timed; why: one sentence. profile: Nsight Compute's figures.
    """

    shape: Shape
    dtype: str
    kernel: str
    config: str
    stage: str
    reason: str
    resources: Resources | None = None
    error_over_bound: float | None = None
    microseconds: float | None = None
    incumbent_microseconds: float | None = None
    noise: float | None = None
    estimate: float | None = None
    verdict: str = FAILED
    why: str = ""
    profile: Mapping[str, float | str] | None = None

    @property
    def subject(self) -> tuple[Shape, str, str]:
        """What one search is about."""
        return self.shape, self.dtype, self.kernel

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Trial:
        """Raises TypeError or LookupError for what is no trial."""
        resources = document["resources"]
        m, n, k = document["shape"]
        return cls(
            **{
                **document,
                "shape": (m, n, k),
                "resources": None if resources is None else Resources(**resources),
            }
        )


@dataclass(frozen=True)
class Best:
    """What a search of one kernel at one shape settled on: its last adopted trial.

    trials: candidates tried, and of: candidates in the space. decisions: what the rules said, in
    order, each with its numbers. microseconds: its median, timed at the end together with the best
    of the other kernels at this shape, so that these compare.
    """

    trial: Trial
    trials: int
    of: int
    decisions: Sequence[str] = ()
    microseconds: float | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Best:
        """Raises TypeError or LookupError for what is none."""
        return cls(**{**document, "trial": Trial.of(document["trial"])})


@dataclass(frozen=True)
class Session:
    """One run of the tuner.

    device: the card's name; target: "sm_89" where nothing was timed, "" where a card was.
    profiled: what Nsight Compute was, or why there was none. skipped: what was not tuned, and why;
    failed: what went wrong beyond one candidate. others: what the registry would take where that
    kernel was not tuned, timed together with the best of those that were. ended: why it was cut
    short, "" where it was not: ``best`` is then the best so far.
    """

    device: str
    capability: tuple[int, int]
    versions: Mapping[str, str | None]
    date: str
    command: str
    target: str
    method: str
    trials: Sequence[Trial]
    best: Sequence[Best]
    profiled: str = ""
    skipped: Mapping[str, str] | None = None
    others: Sequence[Best] = ()
    failed: Mapping[str, str] | None = None
    ended: str = ""

    def without_best(self) -> str:
        """In words, why there is no best."""
        cut_short = f": {self.ended}" if self.ended else ""
        if not self.trials:
            return f"nothing was tried{cut_short}"
        if cut_short:
            return f"none of the {len(self.trials)} candidates tried was right{cut_short}"
        return "no candidate was found to be right"

    def write(self, path: Path) -> None:
        """A trial a line."""
        from fusedops.files import write_whole

        document = asdict(self)
        lists = {name: document.pop(name) for name in ("trials", "best", "others")}
        text = json.dumps(document, indent=1).removesuffix("\n}")
        for name, each in lists.items():
            lines = ",\n  ".join(map(json.dumps, each))
            text += f',\n "{name}": [\n  {lines}\n ]'
        write_whole(path, text + "\n}\n")

    @classmethod
    def read(cls, path: Path) -> Session:
        document = json.loads(path.read_text())
        major, minor = document.pop("capability")
        trials = [Trial.of(each) for each in document.pop("trials")]
        best = [Best.read(each) for each in document.pop("best")]
        others = [Best.read(each) for each in document.pop("others", ())]
        return cls(capability=(major, minor), trials=trials, best=best, others=others, **document)
