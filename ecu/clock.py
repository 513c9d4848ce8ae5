"""Time as an argument (law 8).

Boot time (CLOCK_BOOTTIME) runs through suspend and never jumps: every deadline, age and stamp uses it. Wall time is
for people and certificates only, and may be wrong: see `Clock.wall_ns`.
"""

from __future__ import annotations

import heapq
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000


def boot_id() -> str:
    """Names this boot of the computer (proc(5), random/boot_id): what was only in memory is gone under another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Clock(Protocol):
    """The only source of time in this project."""

    def boot_ns(self) -> int:
        """Nanoseconds since boot, suspend included. Never goes back."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 as this computer believes. May be years off and may jump; never order by it."""
        ...

    async def sleep_until(self, boot_ns: int) -> None:
        """Returns at or after `boot_ns`; at once when that has passed. Cancellable."""
        ...


class SystemClock:
    """The computer's own clocks."""

    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def wall_ns(self) -> int:
        return time.time_ns()

    async def sleep_until(self, boot_ns: int) -> None:
        # Only here: a camera or a worker never sleeps in an event loop, and starts sooner without one.
        import asyncio

        # The event loop sleeps on CLOCK_MONOTONIC, which stands still in suspend: look again on waking.
        while (left_ns := boot_ns - self.boot_ns()) > 0:
            await asyncio.sleep(left_ns / SECOND_NS)


class SteppingClock:
    """Time moves only when told to: lockstep replay and tests.

    Sleepers wake in the order of their times, first come first served among equals.
    """

    def __init__(self, boot_ns: int = 0, wall_ns: int = 1_767_225_600 * SECOND_NS) -> None:
        self._boot_ns = boot_ns
        self._wall_offset_ns = wall_ns - boot_ns
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def boot_ns(self) -> int:
        return self._boot_ns

    def wall_ns(self) -> int:
        return self._boot_ns + self._wall_offset_ns

    def set_wall(self, wall_ns: int) -> None:
        """Jumps wall time, as a GNSS fix or a dead RTC does; boot time goes on."""
        self._wall_offset_ns = wall_ns - self._boot_ns

    def advance(self, boot_ns: int) -> None:
        """Moves to `boot_ns` and wakes whoever waited for a time up to it. Raises ValueError on going back."""
        if boot_ns < self._boot_ns:
            raise ValueError(f"boot time can't go back from {self._boot_ns} to {boot_ns} ns")
        self._boot_ns = boot_ns
        while self._sleepers and self._sleepers[0][0] <= boot_ns:
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep_until(self, boot_ns: int) -> None:
        import asyncio

        if boot_ns <= self._boot_ns:
            await asyncio.sleep(0)
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (boot_ns, next(self._order), sleeper))
        await sleeper


class OffsetClock:
    """A clock whose wall time is off by a known amount (a dead RTC under test), until trusted time corrects it."""

    def __init__(self, inner: Clock, offset_ns: int = 0) -> None:
        self._inner = inner
        self._offset_ns = offset_ns
        self._trusted_since: tuple[int, int] | None = None

    @property
    def offset_ns(self) -> int:
        """What is added to the computer's own wall time now."""
        return self.wall_ns() - self._inner.wall_ns()

    def correct(self, wall_ns: int) -> None:
        """From here on wall time is this, carried on by boot time: when somebody sets the computer's own clock after
        us, it can't be right twice."""
        self._trusted_since = wall_ns, self._inner.boot_ns()

    def boot_ns(self) -> int:
        return self._inner.boot_ns()

    def wall_ns(self) -> int:
        if self._trusted_since is None:
            return self._inner.wall_ns() + self._offset_ns
        wall_ns, boot_ns = self._trusted_since
        return wall_ns + self._inner.boot_ns() - boot_ns

    async def sleep_until(self, boot_ns: int) -> None:
        await self._inner.sleep_until(boot_ns)
