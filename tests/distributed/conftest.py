"""Groups of processes on this machine, which talk through gloo and are kept from test to test."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

WORKER = Path(__file__).with_name("worker.py")
SECONDS = 90
SECONDS_AFTER_A_FAILURE = 3

Run = Callable[..., None]


class Group:
    """So many processes; those that failed are not used again."""

    def __init__(self, world: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.logs = [Path(self.folder.name) / f"{rank}.log" for rank in range(world)]
        self.processes = [self._start(rank, world) for rank in range(world)]

    def _start(self, rank: int, world: int) -> subprocess.Popen[str]:
        command = [sys.executable, str(WORKER), str(rank), str(world), self.folder.name]
        with self.logs[rank].open("w") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=dict(os.environ, OMP_NUM_THREADS="1", TORCHINDUCTOR_COMPILE_THREADS="1"),
            )

    def run(self, function: Callable[..., None], *arguments: Any) -> str:
        """What went wrong where, or nothing."""
        file = function.__code__.co_filename
        request = {"file": file, "function": function.__name__, "arguments": arguments}
        for process in self.processes:
            assert process.stdin is not None
            print(json.dumps(request), file=process.stdin, flush=True)
        troubles, deadline = [], time.monotonic() + SECONDS
        for rank, process in enumerate(self.processes):
            trouble = self._answer(process, deadline)
            if trouble is not None:
                log = self.logs[rank].read_text()[-2000:]
                troubles.append(f"process {rank}: {trouble}\nits output ends:\n{log}")
                deadline = min(deadline, time.monotonic() + SECONDS_AFTER_A_FAILURE)
        return "\n".join(troubles)

    @staticmethod
    def _answer(process: subprocess.Popen[str], deadline: float) -> str | None:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return "no answer in time"
        line = process.stdout.readline()
        answer: str | None = json.loads(line) if line else f"it ended, with {process.wait()}"
        return answer

    def end(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate()
        self.folder.cleanup()


@pytest.fixture(scope="session")
def groups() -> Iterator[dict[int, Group]]:
    kept: dict[int, Group] = {}
    yield kept
    for group in kept.values():
        group.end()


@pytest.fixture
def run(groups: dict[int, Group], request: pytest.FixtureRequest) -> Run:
    """``run(world, function, *arguments)``: on every one of so many processes."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this build of PyTorch has no gloo")

    def in_a_group(world: int, function: Callable[..., None], *arguments: Any) -> None:
        if world not in groups:
            groups[world] = Group(world)
        troubles = groups[world].run(function, *arguments)
        if troubles:
            groups.pop(world).end()
            pytest.fail(troubles, pytrace=False)

    return in_a_group
