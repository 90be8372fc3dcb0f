"""No store followed by a load of the same data."""

from __future__ import annotations

from itertools import product

from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import Source
from fusedops.lint.trace import Event, traces
from fusedops.lint.values import elsewhere


def check(source: Source) -> Findings:
    for trace in traces(source):
        changes = [each for each in trace.of("store", "atomic") if each.writes]
        for store, load in product(changes, trace.of("load")):
            if _reads_back(store, load):
                place = load.node if load.source is source else trace.function
                yield (
                    place,
                    f"{load.pointer.base} is loaded after line {store.node.lineno} stored it: keep "
                    "the value in registers",
                )


def _reads_back(store: Event, load: Event) -> bool:
    if not store.pointer.base or store.pointer.base != load.pointer.base:
        return False
    if store.excludes(load):
        return False
    if store.order < load.order:
        return not _apart(store, load)
    return store.kind == "store" and _next_turn(store, load)


def _apart(store: Event, load: Event) -> bool:
    """Whether they are surely different parts: moved by what does not change in a loop."""
    changing = store.pointer.varies ^ load.pointer.varies
    return elsewhere(store.pointer, load.pointer) and not changing


def _next_turn(store: Event, load: Event) -> bool:
    """Whether a loop stores what its next turn loads from the same place."""
    common = set(store.loops) & set(load.loops)
    return (
        bool(store.pointer.text)
        and store.pointer.text == load.pointer.text
        and any(loop not in store.pointer.varies for loop in common)
    )


RULE = Rule(
    "store-load",
    "If you see store-then-load pattern for same data → BUG, refactor",
    "No kernel loads through a parameter after a store (or an addition) through it, unless a "
    "scalar moves the load to another part; nor does a loop load what its last turn stored.",
    check,
)
