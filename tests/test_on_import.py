"""Modules of PyTorch's that are told of the operators when they come, and not fetched."""

from __future__ import annotations

import subprocess
import sys

import pytest

DTENSOR, FLOPS = "torch.distributed.tensor", "torch.utils.flop_counter"
RULES = """
from torch.distributed.tensor import DTensor
known = DTensor._op_dispatcher.sharding_propagator.op_strategy_funcs
assert any(each.namespace == "fusedops" for each in known)
"""


def run(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_importing_the_library_imports_neither():
    run(f"import sys, fusedops; assert not {{'{DTENSOR}', '{FLOPS}'}} & set(sys.modules)")


@pytest.mark.parametrize(
    "after",
    [DTENSOR, f"{DTENSOR}.experimental", f"{DTENSOR}.parallel", "torch.distributed.fsdp"],
)
def test_told_whatever_imports_dtensor(after):
    run(f"import fusedops; import {after}{RULES}")


def test_told_though_it_was_looked_for_before():
    run(f"import importlib.util, fusedops; importlib.util.find_spec('{DTENSOR}'){RULES}")


def test_told_if_it_is_there_already():
    run(f"import {DTENSOR}; import fusedops{RULES}")


def test_the_module_keeps_its_own_loader():
    run(
        f"import sys, fusedops; import {DTENSOR} as told, {FLOPS} as too; import json\n"
        "for each in (told, too):\n"
        "    assert each.__loader__ is each.__spec__.loader\n"
        "    assert type(each.__loader__) is type(json.__loader__)"
    )


def test_a_module_that_cannot_be_told_is_a_warning(tmp_path, monkeypatch):
    from fusedops.on_import import when_imported

    (tmp_path / "told_of_nothing.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    def tell() -> None:
        raise ImportError("it is gone")

    when_imported("told_of_nothing", tell)
    with pytest.warns(UserWarning, match="told_of_nothing cannot be told of fusedops: it is gone"):
        import told_of_nothing  # noqa: F401
