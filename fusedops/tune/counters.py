"""Nsight Compute's figures of one kernel, by names of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

Figures = Mapping[str, float | str]

SECTIONS = (
    *("SpeedOfLight", "LaunchStats", "Occupancy", "WarpStateStats"),
    *("MemoryWorkloadAnalysis", "MemoryWorkloadAnalysis_Tables"),
)
"""Of metrics: Nsight Compute fills them by names that differ from card to card."""

ELAPSED = "avg.pct_of_peak_sustained_elapsed"

GLOBAL = "_pipe_lsu_mem_global_op_"
USED = "smsp__sass_average_data_bytes_per_sector_mem_global_op_"

METRICS: Mapping[str, tuple[str, ...]] = {
    "nanoseconds": ("gpu__time_duration.sum",),
    "tensor_percent": (f"sm__pipe_tensor_cycles_active.{ELAPSED}",),
    "sm_percent": (f"sm__throughput.{ELAPSED}",),
    "l1_percent": ("l1tex__throughput.avg.pct_of_peak_sustained_active",),
    "l2_percent": (f"lts__throughput.{ELAPSED}",),
    "dram_percent": (f"dram__throughput.{ELAPSED}", f"gpu__dram_throughput.{ELAPSED}"),
    "issue_percent": ("smsp__issue_active.avg.pct_of_peak_sustained_active",),
    "waves": ("launch__waves_per_multiprocessor",),
    "occupancy_percent": ("sm__warps_active.avg.pct_of_peak_sustained_active",),
    "theoretical_occupancy_percent": ("sm__maximum_warps_per_active_cycle_pct",),
    "registers_limit": ("launch__occupancy_limit_registers",),
    "shared_memory_limit": ("launch__occupancy_limit_shared_mem",),
    "warps_limit": ("launch__occupancy_limit_warps",),
    "blocks_limit": ("launch__occupancy_limit_blocks",),
    "shared_wavefronts": ("l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",),
    "bank_conflicts": ("l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",),
    "load_bytes_per_sector": (f"{USED}ld.ratio",),
    "store_bytes_per_sector": (f"{USED}st.ratio",),
    "warp_cycles_per_issue": ("smsp__average_warp_latency_per_inst_issued.ratio",),
}
"""The first of a figure's metrics that a report has is it."""

ASKED_BY_NAME = tuple(
    METRICS[figure][0]
    for figure in ("tensor_percent", "issue_percent", "shared_wavefronts", "bank_conflicts")
)
"""No section has these on every card."""

RATIOS = {
    "load_sectors_per_request": f"{GLOBAL}ld.sum",
    "store_sectors_per_request": f"{GLOBAL}st.sum",
}
"""By the end of both metrics' names."""
COUNTED = ("sectors", "requests")

STALLED, PER_ISSUE = "smsp__average_warps_issue_stalled_", "_per_issue_active.ratio"
NO_STALL = ("selected", "not_selected")
"""Warps that issue, and those that could."""
MOST_STALLS = 3
STALL = "stall_"
FAILED = "failed"
"""In place of all figures: why there are none."""

LIMITS = {
    "registers_limit": "registers",
    "shared_memory_limit": "shared memory",
    "warps_limit": "threads",
    "blocks_limit": "blocks",
}


class Metric(Protocol):
    def as_double(self) -> float: ...


class Action(Protocol):
    """A kernel in a report, as the ncu-report package has it."""

    def metric_names(self) -> Iterable[str]: ...
    def metric_by_name(self, name: str, /) -> Metric | None: ...


def figures_of(action: Action) -> dict[str, float | str]:
    """What the report has of these figures; percentages are of the card's peak.

    ``stall_REASON``, of the largest three: cycles of warps that wait for it, for each instruction
    issued. ``limiter``: what allows no more blocks on a multiprocessor, both of two.
    ``bank_conflict_percent``: of the accesses to shared memory, those a conflict added. What
    TMA moves is in neither sectors nor conflicts.
    """
    found: dict[str, float | str] = {}
    for figure, names in METRICS.items():
        values = (_value(action, name) for name in names)
        value = next((each for each in values if each is not None), None)
        if value is not None:
            found[figure] = round(value, 3)
    found |= _stalls(action)
    limits = {figure: float(found[figure]) for figure in LIMITS if figure in found}
    if limits:
        least = min(limits.values())
        found["limiter"] = " and ".join(LIMITS[each] for each in limits if limits[each] == least)
    wavefronts, conflicts = found.get("shared_wavefronts"), found.pop("bank_conflicts", None)
    if wavefronts and conflicts is not None:
        found["bank_conflict_percent"] = round(100 * float(conflicts) / float(wavefronts), 1)
    for figure, of in RATIOS.items():
        sectors, requests = (_value(action, f"l1tex__t_{what}{of}") for what in COUNTED)
        if sectors is not None and requests:
            found[figure] = round(sectors / requests, 2)
    return found


def _stalls(action: Action) -> dict[str, float]:
    reasons = {
        name.removeprefix(STALLED).removesuffix(PER_ISSUE): _value(action, name) or 0.0
        for name in action.metric_names()
        if name.startswith(STALLED) and name.endswith(PER_ISSUE)
    }
    waits = {reason: value for reason, value in reasons.items() if reason not in NO_STALL}
    largest = sorted(waits, key=waits.__getitem__, reverse=True)[:MOST_STALLS]
    return {f"{STALL}{reason}": round(waits[reason], 3) for reason in largest if waits[reason]}


def _value(action: Action, name: str) -> float | None:
    metric = action.metric_by_name(name)
    return None if metric is None else float(metric.as_double())
