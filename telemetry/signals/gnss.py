"""A GNSS receiver at a serial line, or any other stream of bytes: its sentences as columns, its time as a candidate."""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

from ecu.clock import Clock
from ecu.errors import UsageFault, shown
from telemetry.signals.farend import SourceLost
from telemetry.signals.nmea import NmeaReader, TimeSaid
from telemetry.signals.redial import Redial
from telemetry.signals.schema import Columns

READ_BYTES: Final = 4096
_SPEEDS: Final = (4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800)
BAUDS: Final[dict[int, int]] = {speed: getattr(termios, f"B{speed}") for speed in _SPEEDS}

OpenStream = Callable[[], int]
"""Returns a descriptor that never blocks; raises SourceLost when there is nothing to open."""


@dataclass(frozen=True, slots=True)
class GnssTold:
    """What one read had."""

    columns: tuple[Columns, ...]
    times: tuple[TimeSaid, ...]


@dataclass(frozen=True, slots=True)
class GnssStatus:
    """How the receiver does. `damaged` sentences had a wrong checksum or no form, `invalid` ones said that they know
    nothing, `losses` counts how often the line was lost."""

    connected: bool
    reason: str
    taken: int = 0
    damaged: int = 0
    invalid: int = 0
    losses: int = 0


def serial_line(path: Path, baud: int = 9600) -> OpenStream:
    """A serial line, set to `baud`, 8N1, raw; a pipe or another device is read as it is. Raises UsageFault for a speed
    that no receiver has."""
    if baud not in BAUDS:
        raise UsageFault(f"A GNSS receiver at {baud} baud: it is one of {', '.join(map(str, BAUDS))}.")

    def opened() -> int:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceLost(f"No GNSS receiver at {shown(path)} ({error.strerror}): look at its line.") from error
        try:
            if os.isatty(fd):
                _make_raw(fd, BAUDS[baud])
        except termios.error as error:
            os.close(fd)
            raise SourceLost(f"The GNSS receiver's line {shown(path)} can't be set to {baud} baud: {error}.") from error
        return fd

    return opened


def _make_raw(fd: int, speed: int) -> None:
    """As cfmakeraw(3), 8N1, whatever it was before."""
    _, _, cflag, _, _, _, characters = termios.tcgetattr(fd)
    cflag &= ~(termios.CSIZE | termios.PARENB | termios.CSTOPB)
    cflag |= termios.CS8 | termios.CREAD | termios.CLOCAL
    termios.tcsetattr(fd, termios.TCSANOW, [0, 0, cflag, 0, speed, speed, characters])


class GnssSource:
    """`told` yields what the receiver says, for ever. `first_group` as in NmeaReader."""

    def __init__(self, opened: OpenStream, clock: Clock, rng: Random, first_group: int = 0) -> None:
        self._open = opened
        self._clock = clock
        self._rng = rng
        self._reader = NmeaReader(first_group)
        self._status = GnssStatus(connected=False, reason="not started")

    def status(self) -> GnssStatus:
        sentences = self._reader.status()
        return replace(
            self._status, taken=sentences.taken, damaged=sentences.damaged, invalid=sentences.invalid
        )  # fmt: skip

    async def told(self) -> AsyncGenerator[GnssTold, None]:
        """A lost line is counted, and opened again with full jitter: whatever it does, nothing is raised. Closing the
        generator closes it."""
        redial = Redial(self._clock, self._rng)
        while True:
            try:
                fd = self._open()
                self._status = replace(self._status, connected=True, reason="")
                try:
                    while True:
                        data = await _read(fd)
                        redial.heard()
                        columns, times = self._reader.feed(data, self._clock.boot_ns())
                        if columns or times:
                            yield GnssTold(tuple(columns), tuple(times))
                finally:
                    os.close(fd)
                    self._status = replace(self._status, connected=False)
            except SourceLost as lost:
                # What opens and ends at once was lost once, however often it is tried.
                losses = self._status.losses + (redial.attempt == 0)
                self._status = replace(self._status, reason=str(lost), losses=losses)
            await redial.pause()


async def _read(fd: int) -> bytes:
    """What has come, at least a byte. Raises SourceLost at the end, or when the line fails."""
    while True:
        try:
            if data := os.read(fd, READ_BYTES):
                return data
        except BlockingIOError:
            await _readable(fd)
        except OSError as error:
            raise SourceLost(f"The GNSS receiver's line failed: {error.strerror}.") from error
        else:
            raise SourceLost("The GNSS receiver's line ended.")


async def _readable(fd: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
