"""The redactor killed, and killed again whenever it comes back, while the drive goes on and pictures are wanted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

LOOK_S: Final = 0.02
WITHIN_S: Final = 20.0

Pictures = Mapping[str, Any]
"""`gallery.pictures` of the agent's status; empty while the agent says nothing."""


@dataclass(frozen=True, slots=True)
class Blackout:
    """A time without a redactor: which frames were seen in it, and by how much the agent's own counts grew.

    `wanted` counts pictures of which something had to become; `back` says that another redactor was ready afterwards.
    """

    kills: int
    frames: range
    wanted: int
    taken: int
    dropped: int
    back: bool

    @property
    def all_counted(self) -> bool:
        """Each picture that was wanted has been told what became of it."""
        return self.wanted == self.taken + self.dropped


class Darkness:
    """Makes one. `pictures` asks the agent; `drive_s` and `newest_frame` are what was heard of the drive so far;
    `settled` returns when all that the agent told before has been heard. Nothing is waited for beyond `within_s`."""

    def __init__(
        self,
        pictures: Callable[[], Pictures],
        drive_s: Callable[[], float],
        newest_frame: Callable[[], int],
        settled: Callable[[], Awaitable[None]],
        within_s: float = WITHIN_S,
    ) -> None:
        self._pictures = pictures
        self._drive_s = drive_s
        self._newest_frame = newest_frame
        self._settled = settled
        self._within_s = within_s
        self._kills = 0

    async def fall(self, for_s: float) -> Blackout | None:
        """For `for_s` seconds of the drive, and until a picture was wanted. None when it didn't get dark."""
        if not await self._within(self._is_dark):
            return None
        await self._settled()
        before, first = self._pictures(), self._newest_frame() + 1
        until_s = self._drive_s() + for_s
        await self._within(lambda: self._is_dark() and self._drive_s() >= until_s and self._wanted_since(before))
        # What was heard by now was seen before the counts below were taken.
        last, after = self._newest_frame(), self._pictures()
        back = await self._within(lambda: bool(self._pictures().get("model")))
        if not (before and after):
            return None
        more = {what: _count(after, what) - _count(before, what) for what in ("wanted", "waiting", "taken", "dropped")}
        # What still waits at either end isn't due yet.
        wanted = more["wanted"] - more["waiting"]
        return Blackout(self._kills, range(first, last + 1), wanted, more["taken"], more["dropped"], back)

    def _is_dark(self) -> bool:
        """Kills whoever is there: loading takes a redactor longer than a look takes us, so it never gets to work."""
        pictures = self._pictures()
        if (pid := pictures.get("pid")) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._kills += 1
        return bool(pictures) and not pictures.get("model")

    def _wanted_since(self, before: Pictures) -> bool:
        """And none of it waits for the next frame: an event's picture is of a frame that is yet to come."""
        now = self._pictures()
        return bool(now) and _count(now, "wanted") > _count(before, "wanted") and _count(now, "waiting") == 0

    async def _within(self, reached: Callable[[], bool]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._within_s):
                while not await asyncio.to_thread(reached):
                    await asyncio.sleep(LOOK_S)
                return True
        return False


def _count(pictures: Pictures, what: str) -> int:
    value = pictures["counts"][what]
    return sum(value.values()) if isinstance(value, Mapping) else int(value)
