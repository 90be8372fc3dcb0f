"""The tables that choose here: the package's, with the user's own on top."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain, count
from pathlib import Path

from fusedops import backends, registry, settings
from fusedops.files import write_whole
from fusedops.registry import Measurement, Problem, Table
from fusedops.registry.table import shipped_tables
from fusedops.registry.user_tables import (
    contradicts,
    file_of,
    on_top,
    read_folder,
    read_own,
    without_unknown,
)

LOCK_SECONDS = 60.0
"""A table is written in milliseconds; who holds its lock so long has hung."""

when_changed: list[Callable[[], None]] = []
"""What to call once a table was written: whoever remembers a choice has to forget it."""


def folder() -> Path | None:
    """Where the user's tables lie, whether or not it exists; None where there is no place."""
    if named := settings.TABLES.read():
        try:
            return Path(named).expanduser()
        except RuntimeError as error:
            _warn(f"{settings.TABLES.name} is {named!r}: {error}")
            return None
    try:
        from platformdirs import user_data_path
    except ImportError:
        return None
    return user_data_path("fusedops", appauthor=False) / "tables"


def why_no_folder() -> str:
    """What ``folder`` lacks."""
    name = settings.TABLES.name
    if named := settings.TABLES.read():
        return f"{name} is {named!r}, and there is no such user, or no home"
    return f"platformdirs is not installed: pip install platformdirs, or set {name}"


def table_for(problem: Problem) -> Table | None:
    """The table of the problem's card, or of another of its capability; a CPU has none."""
    if problem.device != "cuda":
        return None
    return registry.table_for(problem, everything(folder()))


@cache
def everything(where: Path | None) -> Mapping[str, Table]:
    """Every table by device name, those of the folder on top."""
    return on_top(shipped_tables(), own_tables(where))


@cache
def own_tables(where: Path | None) -> Mapping[str, Table]:
    """The user's tables, by device name: the rows whose kernels and configurations exist."""
    if where is None:
        return {}
    tables = {}
    for name, table in read_folder(where, _warn).items():
        if why := contradicts(table, shipped_tables()):
            _warn(f"{where / file_of(name)} is refused: {why}")
        else:
            tables[name] = without_unknown(table, backends.kernels(), backends.missing(), _warn)
    return tables


def apply(measurements: Sequence[Measurement], device: str, capability: tuple[int, int]) -> Path:
    """Put measurements into the device's table in the user's folder; the file's path.

    They replace the file's rows of their shapes and dtypes: all that is to be known of a shape is
    to be given at once. Later calls of this process choose by them; other processes read the file
    when they start. Processes that write at once wait for each other. What was no table of the
    device is kept, renamed, and warned of. Raises OSError where the folder cannot be written to,
    ValueError for what cannot be a measurement, and for a capability that is not the device's.
    """
    if why := contradicts(Table(device, capability, ()), shipped_tables()):
        raise ValueError(why)
    for row in measurements:
        if complaint := row.complaint():
            raise ValueError(f"{complaint}, not as in {row}")
    where = folder()
    if where is None:
        raise OSError(f"there is no folder for tables: {why_no_folder()}")
    from filelock import FileLock

    where.mkdir(parents=True, exist_ok=True)
    path = where / file_of(device)
    with FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS):
        empty = Table(device, capability, ())
        before = _read_or_set_aside(path, empty) or empty
        write_whole(path, before.with_rows(measurements).as_text())
    forget()
    return path


def _read_or_set_aside(path: Path, wanted: Table) -> Table | None:
    device = wanted.device
    try:
        table = read_own(path)
        if table.device != device:
            raise ValueError(f"{path} is the table of {table.device}, whose name is as {device}'s")
        if why := contradicts(table, {device: wanted}):
            raise ValueError(f"{path} is refused: {why}")
    except FileNotFoundError:
        return None
    except ValueError as error:
        aside = _unused(path)
        path.replace(aside)
        _warn(f"{error}; it was renamed to {aside.name}")
        return None
    return table


def forget() -> None:
    """Read the folder again when a table is next wanted, and choose anew."""
    everything.cache_clear()
    own_tables.cache_clear()
    for each in when_changed:
        each()


def _unused(path: Path) -> Path:
    """A name of its own for each file that is set aside."""
    names = chain([".refused"], (f".{number}.refused" for number in count(2)))
    return next(aside for aside in map(path.with_suffix, names) if not aside.exists())


_warned: set[str] = set()


def _warn(what: str) -> None:
    if what not in _warned:
        _warned.add(what)
        warnings.warn(f"fusedops goes on without a table of yours: {what}", stacklevel=2)
