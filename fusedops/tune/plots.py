"""A search's plots: time by configuration, the roofline, registers against occupancy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fusedops import backends
from fusedops.bench.peaks import PEAKS, TF32, Peaks
from fusedops.bench.workload import shape_name
from fusedops.tune.trial import (
    ADOPTED,
    COMPUTED,
    FAILED,
    REVERTED,
    WRONG,
    Session,
    Shape,
    Trial,
)

Group = tuple[Shape, str, bool]
"""Shape, arithmetic, and whether of the gradient: kernels that compete."""

MARKS = {ADOPTED: "*", REVERTED: "o", WRONG: "x", FAILED: "x", COMPUTED: "o"}
SIZES = {ADOPTED: 140.0}
COLOURS = ("#d81b60", "#1e88e5", "#2e7d32", "#fb8c00", "#7e57c2", "#795548", "#00897b", "#9e9e9e")
BAR_INCHES = 0.24
FAINT = 0.5
MOST_BARS = 60
"""Of the fastest, in one plot: more are not to be read."""


@dataclass(frozen=True)
class Plot:
    """What it shows, its file, how to draw it on axes, and how large, in inches."""

    shows: str
    name: str
    on: Callable[[Any], None]
    size: tuple[float, float] = (7.5, 5.0)


def draw(session: Session, folder: Path) -> dict[str, str]:
    """Write the plots that the session has figures for; the files by what they show."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    drawn = {}
    for plot in planned(session):
        figure, axes = plt.subplots(figsize=plot.size)
        plot.on(axes)
        axes.set_title(f"{plot.shows}\n{session.device}, {session.date}", fontsize=10)
        figure.savefig(folder / plot.name, dpi=110, bbox_inches="tight")
        plt.close(figure)
        drawn[plot.shows] = plot.name
    return drawn


def planned(session: Session) -> Iterator[Plot]:
    """What there are figures for."""
    best = {(*group_of(each.trial), each.trial.kernel, each.trial.config) for each in session.best}
    for group, trials in by_shape(session.trials).items():
        if bars := fastest(trials):
            yield Plot(
                f"Time by configuration, {title(group)}",
                f"time_{title(group).replace(', ', '_')}.png",
                partial(times, bars=bars, best=best),
                (8.0, 1.6 + BAR_INCHES * len(bars)),
            )
    peaks = PEAKS.get(session.device)
    timed = [each for each in session.trials if each.microseconds and has_products(each)]
    for dtype in dict.fromkeys(each.dtype for each in timed):
        if peaks is not None and dtype in peaks.flops:
            same = [each for each in timed if each.dtype == dtype]
            on = partial(roofline, trials=same, peaks=peaks)
            yield Plot(f"Roofline, {dtype}", f"roofline_{dtype}.png", on)
    if compiled := [each for each in session.trials if each.resources]:
        on = partial(registers, trials=compiled)
        yield Plot("Registers against occupancy", "registers.png", on)


def fastest(trials: Sequence[Trial]) -> list[tuple[str, float, Trial]]:
    """Label, value and trial of those that have a time, or where none has, a modelled one."""
    timed = [(each, each.microseconds) for each in trials if each.microseconds]
    if not timed:
        modelled = [(each, each.estimate) for each in trials if each.estimate]
        least = {
            kernel: min(value for each, value in modelled if each.kernel == kernel)
            for kernel in {each.kernel for each, _ in modelled}
        }
        timed = [(each, value / least[each.kernel]) for each, value in modelled]
    timed.sort(key=lambda pair: pair[1])
    return [(f"{each.kernel} {each.config}", value, each) for each, value in timed[:MOST_BARS]]


def times(
    axes: Any, bars: Sequence[tuple[str, float, Trial]], best: Collection[tuple[Any, ...]]
) -> None:
    """A bar a candidate, the fastest on top; a kernel's best in full colour."""
    colour = _colours(each.kernel for _, _, each in bars)
    places = range(len(bars))
    shades = [
        (colour[each.kernel], 1.0 if (*group_of(each), each.kernel, each.config) in best else FAINT)
        for *_, each in bars
    ]
    axes.barh(places, [value for _, value, _ in bars], color=shades)
    axes.set_yticks(places, [label for label, _, _ in bars], fontsize=7)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    is_timed = any(each.microseconds for _, _, each in bars)
    axes.set_xlabel(
        "microseconds; each kernel's best in full colour"
        if is_timed
        else "modelled time over the kernel's least; what was chosen in full colour"
    )
    axes.grid(axis="x", color="#dddddd", lw=0.6)


def roofline(axes: Any, trials: Sequence[Trial], peaks: Peaks) -> None:
    """Every candidate at its shape's intensity, each operand moved once; the roof above them."""
    from matplotlib.ticker import LogLocator

    dtype = trials[0].dtype
    peak = peaks.flops[dtype]
    ridge = peak / peaks.bytes_per_second
    seen = [intensity(each.shape, dtype) for each in trials]
    low, high = min(*seen, ridge) / 2, max(*seen, ridge) * 2
    roof = [(low, low * peaks.bytes_per_second), (ridge, peak), (high, peak)]
    axes.plot(*zip(*roof, strict=True), color="black", lw=1.2)
    _scatter(
        axes,
        trials,
        seen,
        [operations(each.shape) / (each.microseconds or 1.0) * 1e6 for each in trials],
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):  # less than a decade has no label of its own
        axis.set_minor_formatter("")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter(lambda rate, _: f"{rate / 1e12:g}")
    axes.set_xlabel("operations a byte, each operand read and the result written once")
    axes.set_ylabel("10^12 operations a second")
    axes.grid(which="both", color="#eeeeee", lw=0.6)
    axes.text(
        low, peak, f" {peak / 1e12:.0f} T/s, {peaks.bytes_per_second / 1e12:.2f} TB/s", va="bottom"
    )


def registers(axes: Any, trials: Sequence[Trial]) -> None:
    """A point a candidate."""
    resources = [each.resources for each in trials if each.resources]
    _scatter(
        axes,
        trials,
        [each.registers for each in resources],
        [100 * each.occupancy for each in resources],
    )
    spilled = [each for each in resources if each.local_bytes]
    axes.scatter(
        [each.registers for each in spilled],
        [100 * each.occupancy for each in spilled],
        s=220,
        facecolors="none",
        edgecolors="black",
        label="spills",
    )
    axes.set_xlabel("registers a thread")
    axes.set_ylabel("occupancy, % of the warps a multiprocessor holds")
    axes.set_ylim(0, 105)
    axes.grid(color="#eeeeee", lw=0.6)
    axes.legend(fontsize=7, loc="upper right")


def _scatter(axes: Any, trials: Sequence[Trial], x: Sequence[float], y: Sequence[float]) -> None:
    """By kernel in colour, by verdict in shape."""
    colour = _colours(each.kernel for each in trials)
    for kernel, verdict in dict.fromkeys((each.kernel, each.verdict) for each in trials):
        points = [
            place
            for place, each in enumerate(trials)
            if (each.kernel, each.verdict) == (kernel, verdict)
        ]
        axes.scatter(
            [x[place] for place in points],
            [y[place] for place in points],
            s=SIZES.get(verdict, 26.0),
            marker=MARKS[verdict],
            color=colour[kernel],
            label=f"{kernel}, {verdict}",
        )
    axes.legend(fontsize=7)


def intensity(shape: Shape, dtype: str) -> float:
    """Operations for each byte of the operands and the result."""
    m, n, k = shape
    return operations(shape) / ((m * k + n * k + n + m * n) * _bytes(dtype))


def operations(shape: Shape) -> int:
    """Multiplications and additions."""
    m, n, k = shape
    return 2 * m * n * k


def _bytes(dtype: str) -> int:
    import torch

    element: torch.dtype = torch.float32 if dtype == TF32 else getattr(torch, dtype)
    return element.itemsize


def has_products(trial: Trial) -> bool:
    """Not a kernel of the gradient with respect to z, which multiplies no matrices."""
    return trial.kernel not in {each.name for each in backends.backward_kernels()}


def by_shape(trials: Sequence[Trial]) -> dict[Group, list[Trial]]:
    """The trials of each shape, dtype and direction, in order."""
    found: dict[Group, list[Trial]] = {}
    for each in trials:
        found.setdefault(group_of(each), []).append(each)
    return found


def group_of(trial: Trial) -> Group:
    return trial.shape, trial.dtype, not has_products(trial)


def title(group: Group) -> str:
    shape, dtype, of_gradient = group
    return f"{shape_name(shape)}, {dtype}{', gradient' * of_gradient}"


def _colours(kernels: Any) -> dict[str, str]:
    names = list(dict.fromkeys(kernels))
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
