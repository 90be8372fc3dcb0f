"""What a session found, as rows of a card's table."""

from __future__ import annotations

from fusedops import backends
from fusedops.bench.table import MOST_OF_A_SHAPE
from fusedops.registry import Measurement
from fusedops.registry.table import NEAR
from fusedops.tune.trial import Best, Session


def rows(session: Session) -> list[Measurement]:
    """Of each shape and dtype the fastest kernels, each in its best configuration.

    What was taken before is among them, if it is as fast and was not tuned.

    Those whose times were taken together: a run that was cut short has none of its last shape's.
    Nothing of the gradient's, whose kernels no table chooses.
    """
    packages = ", ".join(f"{name} {each}" for name, each in session.versions.items() if each)
    origin = f"{session.date}, {packages}, {session.method}: {session.command}"
    of_shape: dict[tuple[object, ...], list[tuple[float, Best]]] = {}
    of_operator = {kernel.name for kernel in backends.kernels()}
    for best in (*session.best, *session.others):
        trial = best.trial
        if best.microseconds is not None and trial.kernel in of_operator:
            key = trial.shape, trial.dtype
            of_shape.setdefault(key, []).append((best.microseconds, best))
    found = []
    for each in of_shape.values():
        each.sort(key=lambda pair: pair[0])
        fastest = each[0][0]
        for time, best in each[:MOST_OF_A_SHAPE]:
            if time <= NEAR * fastest:
                trial = best.trial
                found.append(
                    Measurement(
                        *trial.shape,
                        trial.dtype,
                        trial.kernel,
                        trial.config,
                        round(time, 2),
                        origin,
                    )
                )
    return found
