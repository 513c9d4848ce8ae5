"""Heavy work beside the event loop: a pure function and its values, on an executor that lives for one piece of work.

Made anew each time, so that it gives its memory back, and one that was killed takes no other with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Final, ParamSpec, TypeVar

from ecu.errors import EnvironmentFault, OutriderError
from ecu.process import PARENT_VARIABLE, Limits, enter_child, harden

P = ParamSpec("P")
T = TypeVar("T")

_NICE: Final = 10


class JobFailed(EnvironmentFault):
    """The work came to no answer: its process ended, it took too long, or it went wrong. It can be begun again."""


def one_process() -> ProcessPoolExecutor:
    """A process that dies with this one, behind everything else on its processor."""
    # Forking would copy threads and locks as they happen to be.
    spawning = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, spawning, initializer=_enter, initargs=(os.getpid(),))


def _enter(parent: int) -> None:
    enter_child({PARENT_VARIABLE: str(parent)})
    harden(Limits(open_files=None, own_network=False, nice=_NICE, system_calls=False))


class Jobs:
    """`make` gives a new executor, or one of a cluster (Dask's Client.get_executor)."""

    def __init__(self, make: Callable[[], Executor], longest_s: float) -> None:
        self._make = make
        self._longest_s = longest_s

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises what `work` raises of ours (OutriderError), and JobFailed for anything else."""
        try:
            return await self._run(functools.partial(work, *args, **kwargs))
        except OutriderError:
            raise
        except Exception as error:
            # A computer without threads, files or memory says so here, too.
            raise JobFailed(f"It failed: {type(error).__name__}: {error}") from error

    async def _run(self, work: Callable[[], T]) -> T:
        executor = self._make()
        answer: asyncio.Future[T] | None = None
        try:
            answer = asyncio.wrap_future(executor.submit(work))
            await asyncio.wait({answer}, timeout=self._longest_s)
            if not answer.done():
                raise JobFailed(f"It took longer than {self._longest_s:.0f} s ([receiver] learning_job_s).")
            return answer.result()
        finally:
            if answer is None or not answer.done():
                _kill(executor)
            if answer is not None:
                answer.cancel()
            # Without a thread there is nobody to wait for, or nobody to wait.
            with contextlib.suppress(RuntimeError):
                await asyncio.shield(asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True))


def _kill(executor: Executor) -> None:
    """Every process of its own, one that hangs before its first word, too: `shutdown` waits for them."""
    if isinstance(executor, ProcessPoolExecutor):
        # The standard library's own door for this (kill_workers) comes with Python 3.14.
        for process in list((executor._processes or {}).values()):
            process.kill()
