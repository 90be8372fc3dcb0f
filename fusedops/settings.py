"""Every environment variable of the library: its only reader of them, its documentation's source.

Stands alone (standard library only), so that setup.py can load it by path. Build tools keep to
their own variables: setup.py to CXX, the program of benchmarks/sm80 to CUBLAS_LIBRARY.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

PREFIX = "FUSEDOPS_"


class WrongValueError(ValueError):
    """An environment variable holds what it may not; the message says what it may."""


@dataclass(frozen=True)
class Variable:
    """One environment variable: its name, what it may hold, its default and its meaning.

    ``values`` is a tuple of the words it may hold, or a text that says what it holds.
    """

    name: str
    values: tuple[str, ...] | str
    default: str
    meaning: str

    def read(self) -> str:
        """Its value, or the default where unset or empty. Raises WrongValueError."""
        value = os.environ.get(self.name) or self.default
        if isinstance(self.values, tuple) and value not in (*self.values, self.default):
            hint = f"; a kernel is named by {KERNEL.name}" if self is BACKEND else ""
            raise WrongValueError(
                f"{self.name} is {value!r}; it must be {' or '.join(self.values)}{hint}"
            )
        return value

    def flag(self) -> bool:
        """Whether a variable of values 0 | 1 is 1. Raises WrongValueError for anything else."""
        return self.read() == "1"


BACKEND = Variable(
    "FUSEDOPS_BACKEND",
    ("auto", "cuda", "triton", "cpu", "reference"),
    "auto",
    "The backend of every call that names none. Read at each call; use_backend() and the "
    "backend argument come before it.",
)
KERNEL = Variable(
    "FUSEDOPS_KERNEL",
    "a kernel's name, as `python -m fusedops doctor` lists them",
    "",
    "Pins one kernel, in place of FUSEDOPS_BACKEND.",
)
BATCH_INVARIANT = Variable(
    "FUSEDOPS_BATCH_INVARIANT",
    ("0", "1"),
    "0",
    "1 makes the bits of a row independent of the other rows and of M. Read at each call; "
    "batch_invariant() comes before it.",
)
LOG = Variable(
    "FUSEDOPS_LOG",
    ("dispatch",),
    "",
    "dispatch logs each first decision, and why, to the logger `fusedops`.",
)
TABLES = Variable(
    "FUSEDOPS_TABLES",
    "a folder",
    "",
    "Where your own tables of measured choices lie; they come before the package's. Unset: the "
    "user's data folder, as platformdirs names it, which `python -m fusedops doctor` prints.",
)
BUILD_CUDA = Variable(
    "FUSEDOPS_CUDA",
    ("AUTO", "ON", "OFF"),
    "AUTO",
    "At build time: whether the CUDA C++ backend is built. AUTO builds it where nvcc is found.",
)
BUILD_ARCHITECTURES = Variable(
    "FUSEDOPS_CUDA_ARCHITECTURES",
    "a list such as 89;90a",
    "",
    "At build time: the architectures compiled. Empty takes those of the machine's cards, or 89 "
    "and 90a where it has none.",
)
BUILD_EXTENSIONS = Variable(
    "FUSEDOPS_EXTENSIONS",
    ("0", "1"),
    "1",
    "At build time: 0 builds the pure Python package, with the triton and reference backends only.",
)

VARIABLES = (
    *(BACKEND, KERNEL, BATCH_INVARIANT, LOG, TABLES),
    *(BUILD_CUDA, BUILD_ARCHITECTURES, BUILD_EXTENSIONS),
)


# Every call looks at three variables. os.environ encodes, decodes and raises, which would cost
# more than the rest of the look-up; its own store is a dictionary. Only good for comparing.
peek = getattr(os.environ, "_data", os.environ).get
_encode = getattr(os.environ, "encodekey", str)
BACKEND_KEY, KERNEL_KEY = _encode(BACKEND.name), _encode(KERNEL.name)
BATCH_INVARIANT_KEY = _encode(BATCH_INVARIANT.name)


def triton_interpreter() -> bool:
    """Whether Triton's own TRITON_INTERPRET asks for its interpreter."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def warn_of_unknown() -> None:
    """Warn once, at import, of each variable that has the prefix and no meaning."""
    known = {variable.name for variable in VARIABLES}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            warnings.warn(
                f"unknown environment variable {name}; fusedops knows {', '.join(sorted(known))}",
                stacklevel=2,
            )


def as_markdown() -> str:
    """The table of docs/settings.md."""
    rows = ["| Variable | Values | Default | Meaning |", "|---|---|---|---|"]
    for variable in VARIABLES:
        held = variable.values
        values = held if isinstance(held, str) else r" \| ".join(held)
        default = variable.default or "unset"
        rows.append(f"| `{variable.name}` | {values} | {default} | {variable.meaning} |")
    return "\n".join(rows) + "\n"
