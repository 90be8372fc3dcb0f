"""Skips GPU tests aloud where there is no card, and makes Hypothesis repeatable in CI."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import hypothesis
import pytest
import torch

NO_CARD = "no CUDA card here: nothing of this was checked on a GPU"

# Inductor's cache does not see that an operator's schema has changed.
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="fusedops-inductor-")
atexit.register(shutil.rmtree, os.environ["TORCHINDUCTOR_CACHE_DIR"], ignore_errors=True)

# No test sees the tables of whoever runs it, nor writes there.
os.environ["FUSEDOPS_TABLES"] = tempfile.mkdtemp(prefix="fusedops-tables-")
atexit.register(shutil.rmtree, os.environ["FUSEDOPS_TABLES"], ignore_errors=True)

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


SEEN = pytest.StashKey[dict[str, int]]()


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> dict[str, int]:
    """How many examples each kernel, and each backend of the operator, was put through."""
    return request.config.stash.setdefault(SEEN, {})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=NO_CARD))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for subject, examples in terminalreporter.config.stash.get(SEEN, {}).items():
        terminalreporter.write_line(f"{subject}: {examples} examples")
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(NO_CARD in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} GPU tests were SKIPPED: {NO_CARD}", red=True)
