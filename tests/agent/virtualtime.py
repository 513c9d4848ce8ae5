"""An event loop whose time stands still while there is anything to do, and then jumps to whatever is due next.

A minute's deadline passes in no time, to the nanosecond, however busy the computer is; and a test that would wait for
ever fails at once.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec

from ecu.clock import SECOND_NS

P = ParamSpec("P")

LONGEST_S: Final = 3600.0
_BEGIN_S: Final = 1000.0


class Stuck(AssertionError):
    """What the test waits for doesn't come."""


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs the test in such a loop. It may have no processes, threads or sockets in it."""

    @functools.wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*arguments, **named))

    return run


async def passes(seconds: float) -> None:
    """Lets so much virtual time go by, with all that happens in it."""
    await asyncio.sleep(seconds)


async def settled() -> None:
    """All that can happen at this instant has happened."""
    await passes(1e-6)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now_s = _BEGIN_S
        super().__init__(_NeverWaiting(self._jump))

    def time(self) -> float:
        return self._now_s

    def _jump(self, seconds: float | None) -> None:
        if seconds is None:
            raise Stuck("everybody waits, and nothing is due")
        self._now_s += seconds
        if self._now_s > _BEGIN_S + LONGEST_S:
            raise Stuck(f"after {LONGEST_S:.0f} s the test still waits")


class _NeverWaiting(selectors.DefaultSelector):
    """Where others would wait, this one says for how long."""

    def __init__(self, would_wait: Callable[[float | None], None]) -> None:
        super().__init__()
        self._would_wait = would_wait

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self._would_wait(timeout)
        return ready


class LoopClock:
    """The running loop's time as a Clock."""

    def boot_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * SECOND_NS)

    def wall_ns(self) -> int:
        return self.boot_ns()

    async def sleep_until(self, boot_ns: int) -> None:
        await asyncio.sleep(max(0, boot_ns - self.boot_ns()) / SECOND_NS)
