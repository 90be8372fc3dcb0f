"""A search's finished trials on disk, a line each, so that whatever ends it loses one at most."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusedops.tune.trial import Trial

Header = Mapping[str, Any]
NO_LINE = (ValueError, TypeError, LookupError, AttributeError)
"""What reading a damaged one raises."""


def digest(configs: Iterable[object]) -> str:
    """Of a space: searches of different spaces take different turns."""
    return hashlib.sha256("\n".join(map(str, configs)).encode()).hexdigest()[:16]


class Journal:
    """What was tried under a header: the card, the versions, the problem, the space.

    finished: by the configuration's name, what was found under the same header. starts: where the
    search in it began, which need not be where one would begin now: each verdict stands beside the
    best that was found until then, so trials are of use in their own order. notice: a word on what
    was there before, or "".
    """

    def __init__(self, path: Path | None, header: Header, starts: Sequence[str] = ()) -> None:
        self.finished: dict[str, Trial] = {}
        self.starts = list(starts)
        self.notice = ""
        self._damaged = 0
        self._path = path
        self._header = json.loads(json.dumps(header))
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._read(path)
        if whole:
            os.truncate(path, whole)  # a torn last line would spoil the next
        else:
            self._write({"header": self._header, "starts": self.starts})
        if self.finished or self._damaged:
            self.notice = f"{path.name}: {len(self.finished)} trials found, not to be repeated"
        if self._damaged:
            self.notice += f"; damaged lines, dropped: {self._damaged}"

    def append(self, trial: Trial) -> None:
        """The trial is on disk when this returns."""
        self.finished[trial.config] = trial
        if self._path is not None:
            self._write({"trial": asdict(trial)})

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._path is not None
        with self._path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self, path: Path) -> int:
        """How many bytes of the file are whole lines of this search; 0: there is none."""
        if not path.exists():
            return 0
        *lines, torn = path.read_bytes().split(b"\n")
        if not lines:
            path.unlink()
            return 0
        try:
            first = json.loads(lines[0])
            header, starts = first["header"], [str(each) for each in first["starts"]]
            keys = sorted({*header, *self._header})
            other = [key for key in keys if header.get(key) != self._header.get(key)]
        except NO_LINE:
            self._set_aside(path, "it is no journal of a search")
            return 0
        if other:
            self._set_aside(path, f"it is of another search: {', '.join(other)} differ")
            return 0
        self.starts = starts
        for line in lines[1:]:
            try:
                trial = Trial.of(json.loads(line)["trial"])
                self.finished[trial.config] = trial
            except NO_LINE:
                self._damaged += 1
        return path.stat().st_size - len(torn)

    def _set_aside(self, path: Path, why: str) -> None:
        number = 1
        while (aside := path.with_suffix(f".aside{number}")).exists():
            number += 1
        path.rename(aside)
        self.notice = f"{path.name} is now {aside.name}: {why}"
