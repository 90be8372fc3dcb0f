"""A candidate timed in turn with the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fusedops.tune.judge import HOPELESS, compare, is_hopeless, verdict
from fusedops.tune.trial import ADOPTED, REVERTED, Trial
from fusedops.tune.workbench import FEW_ROUNDS, Workbench


def contest(trial: Trial, configs: Sequence[Any], bench: Workbench, rounds: int) -> Trial:
    """The trial with its times and verdict.

    configs: the candidate's, and behind it that of the best so far, where there is one.
    """
    if len(configs) == 1:
        (samples,) = bench.times(configs, rounds)
        found = compare(samples, samples)
        why = "the first that is right: what follows is measured against it"
        return replace(trial, microseconds=found.microseconds, verdict=ADOPTED, why=why)
    # A few rounds show what is hopeless. Once more before it is adopted: of many candidates as
    # fast as the best so far, one in forty seems faster by chance.
    for is_glance, count in ((True, FEW_ROUNDS), (False, rounds), (False, rounds)):
        found = compare(*bench.times(configs, count))
        trial = replace(
            trial,
            microseconds=found.microseconds,
            incumbent_microseconds=found.incumbent_microseconds,
            noise=found.noise,
        )
        if is_hopeless(found):
            times = f"{found.ratio:.3g} times as long as the best so far"
            why = f"{times} in {count} rounds, more than {HOPELESS}"
            return replace(trial, verdict=REVERTED, why=why)
        if is_glance:
            continue
        decided, why = verdict(found)
        trial = replace(trial, verdict=decided, why=why)
        if decided == REVERTED:
            break
    return trial
