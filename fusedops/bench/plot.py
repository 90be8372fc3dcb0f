"""Speed over shapes, ours and the peers', relative to mm and against the floor."""

from __future__ import annotations

from pathlib import Path

from fusedops.bench.candidates import AUTO
from fusedops.bench.report import Report, Row
from fusedops.bench.workload import shape_name

PEER_STYLES = {
    "eager": ("eager PyTorch", "v", "#9e9e9e"),
    "compile": ("torch.compile", "s", "#7e57c2"),
    "compile-max": ("torch.compile, max-autotune", "D", "#b39ddb"),
    "quack": ("QuACK, tuned", "^", "#fb8c00"),
    "seed": ("the seed kernel", "x", "#795548"),
}
OURS_STYLES = {
    "cuda": ("fusedops, best CUDA C++ kernel", "P", "#2e7d32"),
    "triton": ("fusedops, best Triton kernel", "*", "#1e88e5"),
    "cpu": ("fusedops, C++ kernel", "P", "#2e7d32"),
}
AUTO_STYLE = ("fusedops", "o", "#d81b60")
MARGIN = 1.1
TICKS = (
    *(1 / 64, 1 / 32, 1 / 16, 1 / 8, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4),
    *(6, 8, 16, 32, 64),
)


def suffixes() -> list[str]:
    """What a plot's file may end in."""
    from matplotlib.backend_bases import FigureCanvasBase

    return sorted(f".{each}" for each in FigureCanvasBase.get_supported_filetypes())


def draw(report: Report, path: Path) -> None:
    """Write the plot; the file's suffix says what it is: png, svg, pdf."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(max(7.0, 0.62 * len(report.rows) + 2), 5.2))
    places = range(len(report.rows))
    floors = [_speed(row, row.floor) for row in report.rows]
    if any(floors):
        axes.step(
            places, _gaps(floors), where="mid", color="black", lw=1, ls="--", label="the floor"
        )
    axes.axhline(1, color="black", lw=1, label="mm: F.linear alone")
    for name, (label, marker, colour) in PEER_STYLES.items():
        speeds = [_speed(row, row.best(name)) for row in report.rows]
        if any(speeds):
            axes.plot(places, _gaps(speeds), marker, color=colour, ms=6, label=label)
    for backend, (label, marker, colour) in OURS_STYLES.items():
        speeds = [_speed(row, _best_of(row, backend)) for row in report.rows]
        if any(speeds):
            axes.plot(places, _gaps(speeds), marker, color=colour, ms=8, mfc="none", label=label)
    label, marker, colour = AUTO_STYLE
    speeds = [_speed(row, row.best(AUTO)) for row in report.rows]
    axes.plot(places, _gaps(speeds), marker + "-", color=colour, ms=7, lw=1, label=label)
    axes.set_yscale("log", base=2)
    low, high = axes.dataLim.y0 / MARGIN, axes.dataLim.y1 * MARGIN
    axes.set_yticks([tick for tick in TICKS if low <= tick <= high])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(low, high)
    axes.set_xticks(list(places), [shape_name(row.shape) for row in report.rows])
    axes.tick_params(axis="x", labelrotation=40)
    plt.setp(axes.get_xticklabels(), ha="right", rotation_mode="anchor")
    axes.set_ylabel("times as fast as mm")
    axes.set_xlabel("M x N x K")
    axes.set_title(f"{report.device}, {report.arithmetic}, {report.method}")
    axes.grid(axis="y", which="both", color="#dddddd", lw=0.6)
    axes.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.34), frameon=False)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def _best_of(row: Row, backend: str) -> float | None:
    times = [time for name, time in row.microseconds.items() if name.startswith(f"{backend}.")]
    return min(times, default=None)


def _speed(row: Row, time: float | None) -> float | None:
    mm = row.best("mm")
    return mm / time if mm and time else None


def _gaps(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]
