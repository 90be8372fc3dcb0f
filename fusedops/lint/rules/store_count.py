"""As many stores as outputs: each output once, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import combinations

from fusedops.lint.rules.buffers import base_name, is_uninitialized, local_buffers, makes, written
from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import Launch, Source, parameters
from fusedops.lint.trace import Event, Trace, is_kernel, traces
from fusedops.lint.values import elsewhere

TEMPORARY = {"TMP", "TEMP", "INTERMEDIATE", "SCRATCH", "WORKSPACE"}
"""Words in names of parameters that are no outputs, where no launch in the file says what is."""


def check(source: Source) -> Findings:
    followed = traces(source)
    for trace in followed:
        for event, message in _of_a_kernel(source, trace):
            yield event.node if event.source is source else trace.function, message
        kernel = is_kernel(source, trace.function) and trace.complete
        if kernel and not trace.of("store", "atomic"):
            yield trace.function, f"{trace.function.name} stores nothing: it has no output"
    yield from _intermediate(source, {trace.function: trace for trace in followed})


def _of_a_kernel(source: Source, trace: Trace) -> Iterator[tuple[Event, str]]:
    """The stores that are too many."""
    stores = trace.of("store")
    for first, second in combinations([each for each in trace.events if each.writes], 2):
        if "store" in (first.kind, second.kind) and _again(first, second):
            line = first.node.lineno
            yield second, f"{_output(second)} is stored again, after line {line}: store it once"
    loaded = trace.of("load")
    for atomic in (each for each in trace.of("atomic") if each.accumulates):
        before = [each for each in loaded if each.order < atomic.order and _again(each, atomic)]
        if before and atomic.pointer.base:
            yield (
                atomic,
                f"{_output(atomic)} is an input, loaded in line {before[0].node.lineno}, and is "
                "added to: store the result once, in an output",
            )
    launched = any(launch.function is trace.function for launch in source.launches)
    for store in stores:
        if _every_turn(store):
            yield (
                store,
                f"{_output(store)} is stored at the same place in every turn of the loop: keep the "
                "value in registers, and store it once",
            )
        words = set(store.pointer.base.upper().split("_"))
        if words & TEMPORARY and not launched:
            yield (
                store,
                f"{_output(store)} is stored, and by its name is no output: an intermediate result "
                "belongs in registers",
            )


def _again(first: Event, second: Event) -> bool:
    """Whether a run may store the same part of the same output twice."""
    one, other = first.pointer, second.pointer
    if first.excludes(second) or one.base != other.base:
        return False
    if not one.base:
        return bool(one.text) and one.text == other.text
    return not elsewhere(one, other)


def _every_turn(store: Event) -> bool:
    if not store.loops or not store.pointer.terms or not store.pointer.base:
        return False
    loop = store.loops[-1]
    conditions = " ".join(name for name, _ in store.path)
    return loop not in store.pointer.varies and f"@{loop}" not in conditions


def _output(store: Event) -> str:
    return store.pointer.base or ast.unparse(store.node.args[0])


def _intermediate(source: Source, followed: dict[ast.FunctionDef, Trace]) -> Findings:
    """Buffers of host functions that kernels store and nobody outside sees, and the reverse."""
    for host in source.functions:
        launches = [
            (launch, followed[launch.function])
            for launch in source.launches
            if launch.scope is host and launch.function in followed
        ]
        if not launches:
            continue
        buffers = local_buffers(source, host, [launch.call for launch, _ in launches])
        for launch, trace in launches:
            for parameter in sorted(trace.stored):
                argument = launch.argument(parameter)
                name = base_name(argument)
                if makes(argument) or (name in buffers and not buffers[name].leaves):
                    name = ast.unparse(argument) if makes(argument) and argument else name
                    yield (
                        launch.call,
                        f"{launch.name} stores {name}, which {host.name} does not return: an "
                        "intermediate result belongs in registers",
                    )
        for name, buffer in buffers.items():
            if buffer.leaves and is_uninitialized(buffer.made) and buffer.only_launched:
                unwritten = [
                    launch for launch, trace in launches if _leaves_unwritten(launch, trace, name)
                ]
                if unwritten and len(unwritten) == len(launches):
                    yield buffer.made, f"{name} is returned, and no kernel stores it"
                elif all(_only_adds(launch, trace, name) for launch, trace in launches):
                    yield buffer.made, f"{name} is added to before anything is stored in it"


def _leaves_unwritten(launch: Launch, trace: Trace, name: str) -> bool:
    """Whether a launch surely does not store a buffer that it is given."""
    if not trace.complete or any(each.arg is None for each in launch.call.keywords):
        return False
    given = list(_given(launch, name))
    return bool(given) and not written(given, trace)


def _only_adds(launch: Launch, trace: Trace, name: str) -> bool:
    """Whether a launch adds atomically to a buffer and does not store it; tuners may clear it."""
    given = set(_given(launch, name))
    stored, added = (
        {each.pointer.base for each in trace.events if each.kind == kind} & given
        for kind in ("store", "atomic")
    )
    tuned = len(trace.function.decorator_list) > 1
    return bool(added) and not stored and trace.complete and not tuned


def _given(launch: Launch, name: str) -> Iterator[str]:
    for parameter in parameters(launch.function) if launch.function else ():
        if base_name(launch.argument(parameter)) == name:
            yield parameter


RULE = Rule(
    "store-count",
    "Count tl.store() calls: should equal number of OUTPUT tensors (usually 1); tl.store() for "
    "intermediate results - NEVER",
    "On every path a kernel stores each output once (a part of it, moved by a scalar, is another "
    "part), not once a turn of a loop, and stores something; a buffer that a kernel stores leaves "
    "the function that launches it (without a launch, tmp, temp, scratch, workspace or "
    "intermediate in its name tells), and one that is returned uninitialized has been stored. An "
    "atomic operation whose result nobody uses counts as a store, and adds to nothing that was "
    "loaded or is uninitialized.",
    check,
)
