"""The command under way, for a report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence

OF_FILES = ("--out", "--json")


def command() -> str:
    """As another would type it: where its own files go is left out."""
    return shlex.join(["python", "-m", "fusedops", *_without_files(sys.argv[1:])])


def _without_files(words: Sequence[str]) -> Iterator[str]:
    left = iter(words)
    for word in left:
        option, equals, _ = word.partition("=")
        if len(option) > 2 and any(each.startswith(option) for each in OF_FILES):  # or cut short
            if not equals:
                next(left, None)
        else:
            yield word
