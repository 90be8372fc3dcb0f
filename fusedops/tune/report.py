"""A search as Markdown: what was tried, why, what came of it; with plots where matplotlib is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from fusedops.bench.peaks import PEAKS, TF32
from fusedops.bench.report import microseconds
from fusedops.files import write_whole
from fusedops.tune import plots
from fusedops.tune.bottleneck import bound_by
from fusedops.tune.counters import FAILED
from fusedops.tune.plots import Group
from fusedops.tune.trial import Best, Resources, Session, Trial

NAME = "report.md"
TRIALS = (
    *("#", "kernel", "configuration", "stage", "why it was tried"),
    *("registers", "spills", "shared", "resident"),
    *("us", "incumbent", "ratio", "error / bound", "verdict"),
)
PROFILE = {
    "tensor_percent": "tensor pipe, % of peak",
    "dram_percent": "DRAM, % of peak",
    "l2_percent": "L2, % of peak",
    "l1_percent": "L1 and shared memory, % of peak",
    "issue_percent": "issue slots, %",
    "occupancy_percent": "occupancy achieved, %",
    "theoretical_occupancy_percent": "occupancy possible, %",
    "limiter": "what limits it",
    "bank_conflict_percent": "shared accesses added by bank conflicts, %",
    "load_sectors_per_request": "sectors a global load",
    "store_sectors_per_request": "sectors a global store",
    "load_bytes_per_sector": "bytes used of a loaded sector's 32",
    "store_bytes_per_sector": "bytes used of a stored sector's 32",
    "waves": "waves of blocks",
}


def write(session: Session, folder: Path) -> Path:
    """Write ``report.md`` and its plots into the folder, made where missing; the report's path.

    Without matplotlib the report stands alone, and says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if find_spec("matplotlib") is None:
        pictures: Mapping[str, str] = {}
        missing = (
            "No plots: matplotlib is not installed (pip install matplotlib, or fusedops[plot])."
        )
    else:
        pictures, missing = plots.draw(session, folder), ""
    path = folder / NAME
    write_whole(path, as_markdown(session, pictures, missing))
    return path


def as_markdown(session: Session, pictures: Mapping[str, str], missing: str = "") -> str:
    """The report; ``pictures``: files by what they show, ``missing``: why there are none."""
    parts = [*_head(session), *_summary(session)]
    parts += [f"![{shows}]({file})" for shows, file in pictures.items()]
    parts += [missing] if missing else []
    for group, trials in plots.by_shape(session.trials).items():
        parts += _section(session, group, trials)
    return "\n\n".join(parts) + "\n"


def winners(session: Session, group: Group) -> list[Best]:
    """The fastest of the kernels' best; each of them where they were not timed together, since
    neither modelled times nor those of different runs compare."""
    found = [each for each in session.best if plots.group_of(each.trial) == group]
    timed = [(each.microseconds, each) for each in found if each.microseconds is not None]
    return [min(timed, key=lambda pair: pair[0])[1]] if timed else found


def time_of(best: Best) -> float | None:
    """Microseconds: beside the other kernels' best, or else as it was tried."""
    return best.trial.microseconds if best.microseconds is None else best.microseconds


def floor(session: Session, group: Group) -> float | None:
    """Microseconds that the card takes at least, where its peaks are known."""
    peaks = PEAKS.get(session.device)
    if peaks is None:
        return None
    (m, n, k), arithmetic, of_gradient = group
    dtype = torch.float32 if arithmetic == TF32 else getattr(torch, arithmetic)
    if of_gradient:  # reads dy and y, writes dz
        return 3 * m * n * int(dtype.itemsize) / peaks.bytes_per_second * 1e6
    return peaks.floor((m, n, k), dtype, arithmetic)


def _head(session: Session) -> Iterator[str]:
    yield f"# Tuning for {session.device}"
    packages = ", ".join(f"{name} {each}" for name, each in session.versions.items() if each)
    yield f"{session.date}; {packages}; `{session.command}`."
    if session.target:
        yield (
            f"For {session.target}, without the card: compiled, and read from the binary. Nothing "
            "was timed; a modelled time means something only beside another of the same kernel."
        )
    else:
        yield f"Times are medians, {session.method}; every error was held to its bound first."
    if session.profiled:
        yield f"Profiler: {session.profiled.rstrip('.')}."
    if session.ended:
        yield f"Cut short: {session.ended}. What follows is the best so far."
    for title, found in (("Failed", session.failed), ("Left out", session.skipped)):
        if found:
            yield f"{title}:\n" + "\n".join(f"- {what}: {why}" for what, why in found.items())


def _summary(session: Session) -> Iterator[str]:
    titles = ("M x N x K", "kernel", "configuration", "us", "% of the floor", "tried")
    rows = []
    for group in plots.by_shape(session.trials):
        found = winners(session, group)
        if not found:
            rows.append([plots.title(group), "none", *("-",) * 4])
        for best in found:
            least, time = floor(session, group), time_of(best)
            share = f"{100 * least / time:.0f}" if least and time else "-"
            names = (best.trial.kernel, best.trial.config)
            tried = f"{best.trials} of {best.of}"
            rows.append([plots.title(group), *names, microseconds(time), share, tried])
    yield "## The best of each kernel" if session.target else "## Winners"
    yield table(titles, rows) if rows else f"{session.without_best().capitalize()}."


def _section(session: Session, group: Group, trials: Sequence[Trial]) -> Iterator[str]:
    yield f"## {plots.title(group)}"
    yield table(TRIALS, [_row(number, trial) for number, trial in enumerate(trials, 1)])
    for best in session.best:
        if plots.group_of(best.trial) == group and best.decisions:
            decided = "\n".join(
                f"{number}. {each}" for number, each in enumerate(best.decisions, 1)
            )
            yield f"What the rules said of {best.trial.kernel}:\n\n{decided}"
    found = winners(session, group)
    if not found:
        yield f"Nothing was adopted{': cut short, ' if session.ended else ''}{session.ended}."
    for best in found:
        yield _verdict(session, group, best)
        if not session.target:
            yield from _profile(session, best.trial)


def _verdict(session: Session, group: Group, best: Best) -> str:
    which = "Winner:" if best.microseconds is not None else "The best of"
    text = f"**{which} {best.trial.kernel} {best.trial.config}**"
    time, least = time_of(best), floor(session, group)
    if time is None:
        return f"{text}, by what was computed of it."
    text += f", {microseconds(time)} us"
    if least is None:
        return f"{text}; the card's floor is not known."
    share = 100 * least / time
    return f"{text}; the card's floor is {microseconds(least)} us, of which that is {share:.0f} %."


def _profile(session: Session, trial: Trial) -> Iterator[str]:
    if trial.profile is None:
        others = any(each.profile for each in session.trials)
        why = "" if others else session.profiled or "no profiler was asked for"
        yield f"It was not profiled{': ' if why else ''}{why.rstrip('.')}."
        return
    yield bound_by(trial.profile)
    if FAILED in trial.profile:
        return
    names = {**PROFILE, **{name: _stall(name) for name in trial.profile if name not in PROFILE}}
    rows = [
        [names[name], value if isinstance(value, str) else f"{value:.4g}"]
        for name, value in trial.profile.items()
        if names[name]
    ]
    yield table(("figure", "value"), rows)


def _stall(name: str) -> str:
    reason = name.removeprefix("stall_")
    return "" if reason == name else f"waits for {reason}, warp cycles an instruction"


def _row(number: int, trial: Trial) -> list[str]:
    error = "-" if trial.error_over_bound is None else f"{trial.error_over_bound:.3f}"
    return [
        str(number),
        *(trial.kernel, trial.config, trial.stage, trial.reason),
        *_resources(trial.resources),
        *(microseconds(trial.microseconds), microseconds(trial.incumbent_microseconds)),
        _ratio(trial),
        error,
        f"{trial.verdict}: {trial.why}" if trial.why else trial.verdict,
    ]


def _resources(found: Resources | None) -> tuple[str, str, str, str]:
    if found is None:
        return ("-",) * 4
    resident = f"{found.blocks} x {found.threads} ({found.occupancy:.0%}), by {found.limiter}"
    shared = f"{found.shared_bytes / 1024:.0f} KiB"
    return str(found.registers), f"{found.local_bytes} B", shared, resident


def _ratio(trial: Trial) -> str:
    if not (trial.microseconds and trial.incumbent_microseconds):
        return "-"
    ratio = f"{trial.microseconds / trial.incumbent_microseconds:.3f}"
    return ratio if trial.noise is None else f"{ratio} ± {trial.noise:.3f}"


def table(titles: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown, whatever the cells hold."""
    lines = [list(titles), *rows]
    cells = [[cell.replace("|", r"\|").replace("\n", " ") for cell in line] for line in lines]
    cells.insert(1, ["---"] * len(cells[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
