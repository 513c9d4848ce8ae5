"""Heavy work beside the event loop: a pure function and its values, on an executor that lives for one piece of work.

Made anew each time, so that it gives its memory back, and one that was killed takes no other with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar, cast

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
        executor = self._make()
        asked: list[asyncio.Future[Any]] = []
        pid: int | None = None
        try:
            async with asyncio.timeout(self._longest_s):
                if isinstance(executor, ProcessPoolExecutor):
                    asked.append(asyncio.wrap_future(executor.submit(os.getpid)))
                    await asyncio.wait(asked)
                    pid = _answer(asked[0])
                asked.append(asyncio.wrap_future(executor.submit(work, *args, **kwargs)))
                await asyncio.wait(asked)
            pid = None
            return cast(T, _answer(asked[-1]))
        except TimeoutError as error:
            raise JobFailed(f"It took longer than {self._longest_s:.0f} s ([receiver] learning_job_s).") from error
        finally:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for future in asked:
                future.cancel()
            await asyncio.shield(asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True))


def _answer(done: asyncio.Future[T]) -> T:
    error = done.exception()
    if error is None:
        return done.result()
    if isinstance(error, OutriderError):
        raise error
    raise JobFailed(f"It failed: {type(error).__name__}: {error}") from error
