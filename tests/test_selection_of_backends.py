"""How a backend is asked for: argument, context, environment; threads, tasks, compiled code."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest
import torch

import fusedops
from fusedops import settings
from fusedops.override import asked

X = torch.randn(4, 8)
WEIGHT = torch.randn(3, 8)


def explained(**options) -> str:
    return fusedops.explain(X, WEIGHT, **options).kernel


def test_argument_before_context_before_environment(monkeypatch):
    monkeypatch.setenv("FUSEDOPS_BACKEND", "cpu")
    assert asked(None) == ("cpu", "", "environment")
    with fusedops.use_backend("triton"):
        assert asked(None) == ("triton", "", "context")
        assert asked("reference") == ("reference", "", "argument")
        assert explained(backend="reference") == "torch.reference"
    assert asked(None) == ("cpu", "", "environment")


def test_contexts_nest_and_are_reusable():
    again = fusedops.use_backend("reference")
    with again, fusedops.use_backend("cpu"), again:
        assert asked(None)[0] == "reference"
    assert asked(None)[0] == "auto"


def test_environment_is_read_at_each_call(monkeypatch):
    monkeypatch.setenv("FUSEDOPS_BACKEND", "reference")
    assert "FUSEDOPS_BACKEND" in fusedops.explain(X, WEIGHT).why
    monkeypatch.setenv("FUSEDOPS_KERNEL", "torch.reference")
    assert "FUSEDOPS_KERNEL" in fusedops.explain(X, WEIGHT, None, 2.0).why
    monkeypatch.setenv("FUSEDOPS_BACKEND", "cudda")
    monkeypatch.delenv("FUSEDOPS_KERNEL")
    with pytest.raises(ValueError, match=r"FUSEDOPS_BACKEND is 'cudda'.*auto or cuda or triton"):
        fusedops.gemm_sig_res(X, WEIGHT)


def test_forced_and_impossible_is_an_error_with_reasons():
    with pytest.raises(fusedops.NoKernelError, match="Remedy"):
        fusedops.gemm_sig_res(X, WEIGHT, backend="cuda")
    with pytest.raises(ValueError, match="known: auto"):
        fusedops.use_backend("nothing")
    with pytest.raises(ValueError, match="known: auto"):
        fusedops.gemm_sig_res(X, WEIGHT, backend="nothing")
    with pytest.raises(ValueError, match=r"torch\.reference"):
        fusedops.gemm_sig_res(X, WEIGHT, backend="cpu.nothing")


def test_a_context_stays_in_its_thread():
    seen = []
    with fusedops.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(asked(None)[0]))
        thread.start()
        thread.join()
    assert seen == ["auto"]


def test_a_context_stays_in_its_task():
    async def task(name: str, entered: asyncio.Event, leave: asyncio.Event) -> str:
        with fusedops.use_backend(name):
            entered.set()
            await leave.wait()
            return asked(None)[0]

    async def both() -> list[str]:
        events = [asyncio.Event() for _ in range(4)]
        first = asyncio.create_task(task("reference", events[0], events[1]))
        second = asyncio.create_task(task("cpu", events[2], events[3]))
        await events[0].wait()
        await events[2].wait()
        events[1].set()
        events[3].set()
        return [await first, await second, asked(None)[0]]

    assert asyncio.run(both()) == ["reference", "cpu", "auto"]


def test_compiled_code_obeys_the_context_it_runs_in(caplog, monkeypatch):
    monkeypatch.setenv("FUSEDOPS_LOG", "dispatch")
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: fusedops.gemm_sig_res(x, WEIGHT) + 1, fullgraph=True)
    x = torch.randn(7, 8)
    compiled(x)
    with fusedops.use_backend("reference"), caplog.at_level("WARNING", "fusedops"):
        compiled(x)
    assert "use_backend()" in caplog.text


def test_a_context_inside_compiled_code_is_obeyed_or_refused(caplog, monkeypatch):
    monkeypatch.setenv("FUSEDOPS_LOG", "dispatch")

    def inside(x: torch.Tensor) -> torch.Tensor:
        with fusedops.use_backend("reference"):
            return fusedops.gemm_sig_res(x, WEIGHT)

    x = torch.randn(11, 8)
    torch._dynamo.reset()
    with caplog.at_level("WARNING", "fusedops"):
        torch.compile(inside, backend="eager")(x)
    assert "use_backend()" in caplog.text
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(inside, backend="eager", fullgraph=True)(x)


def test_the_argument_is_traced_into_the_graph():
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x: fusedops.gemm_sig_res(x, WEIGHT, backend="reference"), fullgraph=True
    )
    torch.testing.assert_close(compiled(X), fusedops.gemm_sig_res(X, WEIGHT))


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_an_unknown_variable_warns_once():
    done = run("import fusedops, fusedops.settings", FUSEDOPS_BAKEND="cuda")
    assert done.stderr.count("unknown environment variable FUSEDOPS_BAKEND") == 1
    assert "FUSEDOPS_BACKEND" in done.stderr


@pytest.mark.parametrize("variable", settings.VARIABLES, ids=lambda each: each.name)
def test_a_variable_holds_what_it_may(variable, monkeypatch):
    if isinstance(variable.values, tuple):
        for word in variable.values:
            monkeypatch.setenv(variable.name, word)
            assert variable.read() == word
        monkeypatch.setenv(variable.name, "magic")
        with pytest.raises(ValueError, match=f"{variable.name} is 'magic'; it must be"):
            variable.read()
    monkeypatch.setenv(variable.name, "")
    assert variable.read() == variable.default


def test_a_wrong_logging_variable_is_an_error(monkeypatch):
    monkeypatch.setenv("FUSEDOPS_LOG", "x")
    with pytest.raises(ValueError, match="FUSEDOPS_LOG is 'x'; it must be dispatch"):
        fusedops.gemm_sig_res(torch.randn(4, 9), torch.randn(3, 9))


NEEDED_LATER = ("triton", "torch._dynamo", "hypothesis", "rich", "platformdirs", "matplotlib")


def test_importing_is_cheap_and_pulls_in_nothing():
    code = (
        "import time, torch; start = time.process_time(); import fusedops; "
        "import sys; print(time.process_time() - start); "
        "fusedops.gemm_sig_res(torch.ones(2, 3), torch.ones(4, 3)); "
        f"print([m for m in {NEEDED_LATER} if m in sys.modules])"
    )
    best = min(float(run(code).stdout.split()[0]) for _ in range(3))
    assert best < 0.05
    assert run(code).stdout.splitlines()[1] == "[]"


def test_the_documentation_of_the_settings_is_current():
    from pathlib import Path

    page = Path(__file__).parent.parent / "docs" / "settings.md"
    assert settings.as_markdown() in page.read_text()
