"""What bounds a kernel, in one sentence, from Nsight Compute's figures."""

from __future__ import annotations

from fusedops.tune.counters import FAILED, STALL, Figures

SATURATED = 80.0
"""Percent of its peak from which a unit is the limit. Nsight Compute's own rules draw it there:
no pattern of accesses keeps a memory above some 90 %, nor a loop its pipe."""
IDLE = 60.0
"""Below it, for every unit, the kernel waits on latency: Nsight Compute's line as well."""
WHOLE_WAVE = 1.0
"""Blocks over what the card holds at once: with fewer, multiprocessors stand empty."""
MANY_CONFLICTS = 20.0
"""Percent of the accesses to shared memory that conflicts add, from which they are worth a word."""

UNITS = {
    "tensor_percent": "the tensor cores",
    "dram_percent": "DRAM",
    "l2_percent": "L2",
    "l1_percent": "L1 and shared memory",
    "issue_percent": "the issue of instructions",
    "sm_percent": "the multiprocessors' pipes",
}
"""The most telling first: a multiprocessor's throughput is that of its busiest part."""

WAITS = {
    "long_scoreboard": "data from global memory",
    "short_scoreboard": "shared memory or special functions",
    "barrier": "other warps at a barrier",
    "math_pipe_throttle": "a busy math pipe",
    "mio_throttle": "the queue to shared memory",
    "lg_throttle": "the queue to global memory",
    "gmma": "products of the tensor cores",
    "warpgroup_arrive": "the other warps of the group",
    "wait": "the fixed latency of instructions",
    "drain": "stores to leave",
    "membar": "a memory fence",
    "no_instruction": "instructions to be fetched",
    "sleeping": "their time to wake",
    "branch_resolving": "branches",
    "dispatch_stall": "the dispatcher",
    "imc_miss": "constants to be fetched",
    "tex_throttle": "the texture queue",
}
OF_SHARED_MEMORY = ("short_scoreboard", "mio_throttle")


def bound_by(figures: Figures) -> str:
    """One sentence. Pure; says so where the figures do not tell."""
    tightest, share = busiest(figures)
    if not tightest:
        why = figures.get(FAILED, "what it gave tells nothing")
        return f"Nsight Compute has no figures of what bounds it: {why}."
    if share >= SATURATED:
        return f"It is bound by {tightest}, at {share:.0f} % of the peak{_conflicts(figures)}."
    if share >= IDLE:
        return (
            f"It is bound by {tightest} in part, at {share:.0f} % of the peak, and by "
            f"latency: {_waiting(figures)}{_conflicts(figures)}."
        )
    waves = float(figures.get("waves", WHOLE_WAVE))
    if waves < WHOLE_WAVE:
        return (
            f"It is bound by too few blocks: they fill {waves:.0%} of the card, and its busiest "
            f"unit, {tightest}, is at {share:.0f} % of the peak; {_waiting(figures)}."
        )
    return (
        f"It is bound by latency: no unit is above {share:.0f} % of its peak, and "
        f"{_waiting(figures)}{_conflicts(figures)}."
    )


def busiest(figures: Figures) -> tuple[str, float]:
    """The unit nearest to its peak, in words, and how near, in percent; "" where none is known."""
    used = {unit: float(figures[unit]) for unit in UNITS if unit in figures}
    if not used:
        return "", 0.0
    tightest = max(used, key=used.__getitem__)
    return UNITS[tightest], used[tightest]


def worst_wait(figures: Figures) -> tuple[str, float]:
    """What warps wait for longest, and cycles for each instruction; "" where none is known."""
    stalls = {
        name.removeprefix(STALL): float(value)
        for name, value in figures.items()
        if name.startswith(STALL)
    }
    if not stalls:
        return "", 0.0
    reason = max(stalls, key=stalls.__getitem__)
    return reason, stalls[reason]


def _waiting(figures: Figures) -> str:
    reason, waited = worst_wait(figures)
    if not reason:
        return "what its warps wait for is not known"
    cycles = f"{waited:.1f}"
    if total := figures.get("warp_cycles_per_issue"):
        cycles += f" of {float(total):.1f}"
    text = f"its warps wait for {WAITS.get(reason, reason)} ({cycles} cycles an instruction)"
    if "occupancy_percent" in figures:
        text += f", at {float(figures['occupancy_percent']):.0f} % occupancy"
        if limiter := figures.get("limiter"):
            text += f", limited by {limiter}"
    return text


def _conflicts(figures: Figures) -> str:
    """A word on bank conflicts, where shared memory has a part in it."""
    share = float(figures.get("bank_conflict_percent", 0.0))
    by_shared = busiest(figures)[0] == UNITS["l1_percent"]
    if share < MANY_CONFLICTS or not (by_shared or worst_wait(figures)[0] in OF_SHARED_MEMORY):
        return ""
    return f"; bank conflicts are {share:.0f} % of its accesses to shared memory"
