"""What Nsight Compute's figures say to try next: warps and stages, rule by rule."""

from __future__ import annotations

from fusedops.tune.bottleneck import IDLE, SATURATED, WAITS, busiest, worst_wait
from fusedops.tune.counters import Figures
from fusedops.tune.rules import FEW_WARPS, MANY_STAGES, MANY_WARPS, Advice, Setting

OF_GLOBAL_MEMORY = ("long_scoreboard", "lg_throttle")
OF_OTHER_WARPS = ("barrier", "warpgroup_arrive")


def saturated(figures: Figures, setting: Setting) -> Advice | None:
    """A unit at its peak: more warps or stages would only wait for it in other places."""
    unit, share = busiest(figures)
    if share < SATURATED:
        return None
    return Advice("saturated", f"{unit} at {share:.0f} % of the peak, {SATURATED:.0f} or more", ())


def waits_for_memory(figures: Figures, setting: Setting) -> Advice | None:
    """Latency that nothing hides: more stages are in flight, or more warps take turns."""
    because = _waiting(figures, OF_GLOBAL_MEMORY)
    if because is None:
        return None
    deeper, wider = Setting(setting.warps, MANY_STAGES), Setting(MANY_WARPS, setting.stages)
    return _advice("waits_for_memory", because, setting, deeper, wider)


def waits_for_warps(figures: Figures, setting: Setting) -> Advice | None:
    """Time lost at barriers: fewer warps have less to wait for."""
    because = _waiting(figures, OF_OTHER_WARPS)
    if because is None:
        return None
    return _advice("waits_for_warps", because, setting, Setting(FEW_WARPS, setting.stages))


RULES = (saturated, waits_for_memory, waits_for_warps)


def advice(figures: Figures, setting: Setting) -> list[Advice]:
    """What every rule that fires says."""
    return [each for rule in RULES if (each := rule(figures, setting)) is not None]


def _waiting(figures: Figures, reasons: tuple[str, ...]) -> str | None:
    """The numbers, where no unit is busy and such a wait is the longest."""
    unit, share = busiest(figures)
    reason, cycles = worst_wait(figures)
    if share >= IDLE or reason not in reasons:
        return None
    return (
        f"{cycles:.1f} cycles an instruction for {WAITS[reason]}, and the busiest unit, {unit}, at "
        f"{share:.0f} %, below {IDLE:.0f}"
    )


def _advice(rule: str, because: str, now: Setting, *settings: Setting) -> Advice:
    return Advice(rule, because, tuple(each for each in settings if each != now))
