"""The shapes of mask and data are the pointer's."""

from __future__ import annotations

from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import Source
from fusedops.lint.trace import Event, traces
from fusedops.lint.values import misfit


def check(source: Source) -> Findings:
    for trace in traces(source):
        for event in trace.of("load", "store"):
            if event.source is source:
                yield from _of_an_access(event)
    for _, call in source.jitted_calls():
        if source.language(call) == "load":
            given = {each.arg for each in call.keywords}
            if "other" in given and "mask" not in given and len(call.args) < 2:
                yield call, "load has `other` and no mask that leaves anything out"


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
    "the pointer's number of dimensions and its lengths, or 1; `other` comes with a mask.",
    check,
)
