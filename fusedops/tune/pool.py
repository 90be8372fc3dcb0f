"""Processes that compile what is likely to be tried next; Triton keeps the code on disk for all."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

from fusedops import backends
from fusedops.lint.machine import triton_programs
from fusedops.registry import Kernel, Problem


class Pool:
    """Compiles ahead of a search. With one job nothing is ahead: the search compiles as it goes."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._workers: ProcessPoolExecutor | None = None
        self._under_way: dict[tuple[Kernel, Problem, Any], Future[None]] = {}

    def expect(self, kernel: Kernel, problem: Problem, configs: Sequence[Any]) -> None:
        if self._jobs < 2 or not kernel.compiled_on_demand or problem.capability is None:
            return
        if self._workers is None:
            # Spawned: a process with a CUDA context cannot be forked.
            spawn = multiprocessing.get_context("spawn")
            self._workers = ProcessPoolExecutor(
                self._jobs, mp_context=spawn, initializer=_end_with_the_parent
            )
        for config in configs:
            key = (kernel, problem, config)
            if key not in self._under_way:
                try:
                    task = self._workers.submit(_compile, kernel.name, problem, config)
                except BrokenProcessPool:  # killed, for its memory perhaps
                    self._jobs = 1
                    return
                self._under_way[key] = task

    def wait(self, kernel: Kernel, problem: Problem, config: Any) -> None:
        """Until the code is on disk, if it was expected."""
        task = self._under_way.get((kernel, problem, config))
        if task is not None:
            with suppress(
                Exception, CancelledError
            ):  # it will be met again where it is compiled for use
                task.result()

    def forget(self, kernel: Kernel, problem: Problem) -> None:
        """What has not been begun of a search is not wanted any more."""
        for key in [each for each in self._under_way if each[:2] == (kernel, problem)]:
            self._under_way.pop(key).cancel()

    def close(self) -> None:
        if self._workers is not None:
            self._workers.shutdown(wait=False, cancel_futures=True)


def _end_with_the_parent() -> None:
    """However the parent ends: a worker that waits for work never hears of a parent's kill."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _compile(kernel_name: str, problem: Problem, config: Any) -> None:
    every = (*backends.kernels(), *backends.backward_kernels())
    kernel = next(each for each in every if each.name == kernel_name)
    assert problem.capability is not None
    triton_programs.specialization(kernel, problem, config).compile(problem.capability)
