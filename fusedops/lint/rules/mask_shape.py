"""The shapes of mask and data are the pointer's."""

from __future__ import annotations

from itertools import permutations

from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import Source
from fusedops.lint.trace import Event, is_kernel, traces
from fusedops.lint.values import misfit


def check(source: Source) -> Findings:
    for trace in traces(source):
        accesses = [each for each in trace.of("load", "store") if each.source is source]
        for event in accesses:
            # Of a helper that nobody is seen to call, a parameter may be a block of addresses.
            if event.pointer.shape != () or is_kernel(source, trace.function):
                yield from _of_an_access(event)
        for one, other in permutations(accesses, 2):
            if one.mask is None and other.mask is not None and _same_places(one, other):
                yield (
                    one.node,
                    f"the {one.kind} has no mask, and the {other.kind} in line {other.node.lineno} "
                    "has one at the same offsets",
                )
    for _, call in source.jitted_calls():
        if source.language(call) == "load":
            given = {each.arg for each in call.keywords}
            if "other" in given and "mask" not in given and len(call.args) < 2:
                yield call, "load has `other` and no mask that leaves anything out"


def _same_places(one: Event, other: Event) -> bool:
    """Whether two accesses take the same blocks of two tensors."""
    offsets = one.pointer.offsets
    return bool(offsets) and offsets == other.pointer.offsets and not one.excludes(other)


def _of_an_access(event: Event) -> Findings:
    whole = event.pointer.shape
    if event.mask is not None:
        reason = misfit(event.mask.shape, whole)
        if reason:
            yield event.node, f"the mask of the {event.kind} {reason}"
    if event.data is not None:
        reason = misfit(event.data.shape, whole)
        if reason:
            what = "what is stored" if event.kind == "store" else "`other`"
            yield event.node, f"{what} {reason}"


RULE = Rule(
    "mask-shape",
    "mask shape MUST match data shape in tl.load/tl.store",
    "Where both shapes can be told, the mask of a load or store, `other`, and what is stored have "
    "the pointer's number of dimensions and its lengths, or 1; `other` comes with a mask; and an "
    "access has one where another one at the same offsets has.",
    check,
)
