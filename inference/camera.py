"""A camera's process: `python -m inference.camera --source URL --channel FD --ledger PATH --first-frame-id N`.

It paces a source in real time or by lockstep grants, writes each frame into a slot leased to it, and says so. What it
captured is counted in its own ledger, which outlives it: law 2 holds across kills.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
from collections import deque
from pathlib import Path

from ecu.channel import Advance, Channel, ChannelClosed, Done
from ecu.clock import SECOND_NS, Clock, SystemClock, boot_id
from ecu.errors import EnvironmentFault
from ecu.ledger import Ledger
from ecu.process import Limits, enter_child, harden
from inference.messages import (
    Begin,
    CameraHello,
    Filled,
    Lease,
    Ring,
    Skipped,
    SourceEnded,
    SourceFault,
    ToCamera,
)
from inference.pixels import FrameMemory
from inference.sources import SourceUnusable, VideoSource, open_source

LEDGER_NAMES = ("captured",)


class Camera:
    """Moves frames from a source into leased slots, one period apart."""

    def __init__(
        self, source: VideoSource, channel: Channel[ToCamera], ledger: Ledger, clock: Clock, first_frame_id: int
    ) -> None:
        self._source = source
        self._channel = channel
        self._ledger = ledger
        self._clock = clock
        self._next_id = first_frame_id
        self._due_ns = 0
        self._begin: Begin | None = None
        self._granted_ns = -1
        self._leases: deque[int] = deque()
        self._memory: FrameMemory | None = None

    def run(self) -> None:
        """Until the source ends (returns) or the agent goes (ChannelClosed)."""
        self._channel.send(CameraHello(self._source.width, self._source.height, self._source.period_ns))
        while self._begin is None:
            self._take_message()
        self._due_ns = self._begin.from_ns
        frames = self._lockstep() if self._begin.lockstep else self._real_time()
        self._channel.send(SourceEnded(frames))
        while True:
            self._take_message()

    def _real_time(self) -> int:
        captured = 0
        # A recorded frame is decoded before it is due: a sensor's driver would have the pixels ready at that instant.
        while self._source.grab():
            frame = self._filled()
            self._wait_until(self._due_ns)
            self._tell(frame or self._filled())
            captured += 1
            # Whoever was told may have been woken on this very processor: it goes first, decoding can wait.
            os.sched_yield()
            # After a stall the sensor's missed exposures never happened: go on from now, don't burst.
            self._due_ns = max(self._due_ns, self._clock.boot_ns() - self._source.period_ns) + self._source.period_ns
        return captured

    def _lockstep(self) -> int:
        captured = 0
        while True:
            while self._due_ns > self._granted_ns:
                if self._granted_ns >= 0:
                    self._channel.send(Done(self._granted_ns))
                self._take_grant()
            while not self._leases:
                self._take_message()
            if not self._source.grab():
                return captured
            self._tell(self._filled())
            captured += 1
            self._due_ns += self._source.period_ns

    def _take_grant(self) -> None:
        before = self._granted_ns
        while self._granted_ns == before:
            self._take_message()

    def _filled(self) -> tuple[int, bool] | None:
        """The grabbed frame in a leased slot, and whether the scene starts anew with it; None while no slot is free."""
        if not self._leases or self._memory is None:
            return None
        slot = self._leases.popleft()
        return slot, self._source.fill(self._memory.frame(slot, self._source.height, self._source.width))

    def _tell(self, filled: tuple[int, bool] | None) -> None:
        """The frame is captured now. Counted before it is told: what is counted and never told was lost with us."""
        frame_id, self._next_id = self._next_id, self._next_id + 1
        self._ledger.add(captured=1)
        if filled is None:
            self._channel.send(Skipped(frame_id, self._due_ns))
        else:
            slot, fresh = filled
            self._channel.send(Filled(slot, frame_id, self._due_ns, fresh))

    def _wait_until(self, due_ns: int) -> None:
        while True:
            left_s = max(0, due_ns - self._clock.boot_ns()) / SECOND_NS
            if select.select([self._channel], [], [], left_s)[0]:
                self._take_message()
            elif self._clock.boot_ns() >= due_ns:
                return

    def _take_message(self) -> None:
        message, descriptors = self._channel.receive()
        match message:
            case Lease(slot):
                self._leases.append(slot)
            case Advance(t_ns):
                self._granted_ns = t_ns
            case Begin():
                self._begin = message
            case Ring(slots, slot_bytes):
                self._memory = FrameMemory(descriptors[0], slots, slot_bytes, writable=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="inference.camera")
    parser.add_argument("--source", required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--first-frame-id", type=int, default=0)
    arguments = parser.parse_args()
    enter_child()
    channel: Channel[ToCamera] = Channel(socket.socket(fileno=arguments.channel), ToCamera)
    try:
        with contextlib.closing(Ledger.open(arguments.ledger, LEDGER_NAMES, boot_id().encode())) as counts:
            # From here on it meets what a file's author wrote: nothing but pixels may come of it.
            harden(Limits())
            source = open_source(arguments.source)
            Camera(source, channel, counts, SystemClock(), arguments.first_frame_id).run()
    except SourceUnusable as fault:
        channel.send(SourceFault(str(fault), usage=True))
    except EnvironmentFault as fault:
        channel.send(SourceFault(str(fault), usage=False))
    except ChannelClosed:
        pass


if __name__ == "__main__":
    main()
