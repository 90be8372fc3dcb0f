"""Say what is installed, loaded and found here, and what is missing; never crashes."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import torch

import fusedops
from fusedops import backends, native, settings, tables
from fusedops.plans import device_facts
from fusedops.registry import Kernel, Problem, backward_problem, reasons_against
from fusedops.registry.problem import Card
from fusedops.registry.table import shipped_tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--settings", action="store_true", help="list the environment variables")


def main(args: argparse.Namespace) -> int:
    if args.settings:
        print(settings.as_markdown(), end="")
        return 0
    report = {name: attempt(probe) for name, probe in PROBES.items()}
    print(json.dumps(report, indent=1) if args.json else as_text(report))
    return 0


def attempt(probe: Callable[[], Any]) -> Any:
    """What the probe finds, or the sentence that says how it failed."""
    try:
        return probe()
    except Exception as error:
        return f"could not be found out: {type(error).__name__}: {error}"


def as_text(value: Any, indent: str = "") -> str:
    """Nested names and values, a line each."""
    lines = []
    items = value.items() if isinstance(value, dict) else ((None, each) for each in value)
    for name, each in items:
        label = indent if name is None else f"{indent}{name}: "
        if isinstance(each, (dict, list)) and each:
            lines.append(f"{label.rstrip()}\n{as_text(each, indent + '  ')}")
        else:
            lines.append(f"{label}{'none' if each in (None, [], {}) else each}")
    return "\n".join(lines)


def _torch() -> dict[str, Any]:
    return {"version": torch.__version__, "cuda": torch.version.cuda}


def _cards() -> list[str]:
    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(each) for each in range(torch.cuda.device_count())]
    return [f"{each.name} (sm_{each.major}{each.minor})" for each in found]


def _backends() -> dict[str, str]:
    names = ("cuda", "triton", "cpu", "reference")
    return {name: backends.missing().get(name, "present") for name in names}


def _kernels() -> dict[str, Any]:
    """Each kernel on a plain problem of this machine: available, or why not."""
    facts = _facts()
    card = None
    if facts["device"] == "cuda":
        card = Card(facts["device_name"], facts["capability"], facts["multiprocessors"])
    problem = Problem.contiguous(1024, 1024, 1024, torch.float16, card=card)
    return _available(backends.kernels(), problem)


def _gradient_kernels() -> dict[str, Any]:
    """The same of the kernels of the gradient with respect to z."""
    problem = backward_problem(1024, 1024, torch.float16, steps=1, **_facts())
    return _available(backends.backward_kernels(), problem)


def _facts() -> dict[str, Any]:
    """Of the current card, or the CPU."""
    if not torch.cuda.is_available():
        return device_facts(torch.device("cpu"))
    return device_facts(torch.device("cuda", torch.cuda.current_device()))


def _available(kernels: Iterable[Kernel], problem: Problem) -> dict[str, Any]:
    return {
        kernel.name: list(reasons_against(kernel, problem, backends.missing())) or "available"
        for kernel in kernels
    }


def _compiled() -> dict[str, Any]:
    catalogue = native.catalogue()
    if catalogue is None:
        return {}
    instances = {
        repr(instance): [
            f"{each['arch']}: {each['registers']} registers, {each['spill_bytes']} bytes spilled, "
            f"{each['occupancy_blocks']} blocks ({each['occupancy_warps']} warps) resident, "
            f"limited by {each['limiter']}"
            for each in instance.resources
        ]
        for instance in catalogue.instances()
    }
    return {"build": catalogue.build_info(), "instances": instances}


def _own_tables() -> dict[str, Any]:
    """The user's folder, and of each table in it its file, its rows and where they come from."""
    folder = tables.folder()
    if folder is None:
        return {"folder": tables.why_no_folder()}
    found: dict[str, Any] = {"folder": str(folder) + ("" if folder.is_dir() else ", not there yet")}
    for name, table in tables.own_tables(folder).items():
        files = dict.fromkeys(row.file for row in table.measurements)
        found[name] = [*files, f"{len(table.measurements)} rows", *table.origins]
    return found


PROBES: dict[str, Callable[[], Any]] = {
    "fusedops": lambda: fusedops.__version__,
    "python": platform.python_version,
    "platform": platform.platform,
    "torch": _torch,
    "triton": lambda: version("triton"),
    "nvcc": lambda: shutil.which("nvcc"),
    "cards": _cards,
    "backends": _backends,
    "kernels, on a plain float16 problem here": _kernels,
    "kernels of the gradient, on the same": _gradient_kernels,
    "tables": lambda: {name: list(table.origins) for name, table in shipped_tables().items()},
    "tables of yours": _own_tables,
    "settings in force": lambda: {
        each.name: each.read() for each in settings.VARIABLES if each.read() != each.default
    },
    "compiled": _compiled,
}
