"""Frames of CAN interfaces by Linux's SocketCAN (Documentation/networking/can.rst), on the standard library."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecu.clock import Clock
from ecu.errors import UsageFault, shown
from telemetry.signals.canlayout import CAN_MTU, CANFD_FRAME, CANFD_MTU, frames_of
from telemetry.signals.datagrams import SO_RXQ_OVFL, SO_TIMESTAMPNS, DatagramReader, Datagrams
from telemetry.signals.farend import SourceLost
from telemetry.signals.frames import CLASSIC_BYTES, ERROR, REMOTE, Frames, concat, no_frames
from telemetry.signals.framesource import LIMITS, BatchLimits, FrameStatus, portions
from telemetry.signals.redial import Redial

RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
_SO_RCVBUFFORCE: Final = 33
_CAN_RAW_ERR_FILTER: Final = 2  # linux/can/raw.h
_MOST_READS: Final = 4
_ERROR_MASK: Final = 0x1FFF_FFFF  # all classes of errors
_BUS_OFF: Final = 0x40  # linux/can/error.h
_DOWN: Final = (errno.ENETDOWN, errno.ENODEV, errno.ENXIO)

OpenBus = Callable[[], socket.socket]
"""Returns a socket of which each datagram is one frame; raises SourceLost when the interface isn't there."""


def can_bus(interface: str) -> OpenBus:
    """A CAN interface by its name, e.g. "can0". Raises UsageFault for what can't be one's name."""
    if not interface or len(interface.encode()) > 15 or "/" in interface or not interface.isprintable():
        raise UsageFault(
            f"{shown(repr(interface))} can't be the name of a CAN interface: write one as ip link shows it."
        )

    def opened() -> socket.socket:
        try:
            bus = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        except (AttributeError, OSError) as error:
            raise SourceLost(f"This computer has no CAN: {error}. Load the kernel's module can_raw.") from error
        try:
            bus.setblocking(False)
            bus.setsockopt(socket.SOL_CAN_RAW, _CAN_RAW_ERR_FILTER, struct.pack("=I", _ERROR_MASK))
            with contextlib.suppress(OSError):  # kernels and controllers without CAN FD
                bus.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
            bus.bind((interface,))
        except OSError as error:
            bus.close()
            raise SourceLost(f"CAN interface {interface}: {error.strerror}. Look at ip -details link.") from error
        return bus

    return opened


class SocketCan:
    """All frames of some buses; a bus's number is its place in `buses`. Another one's going down disturbs none."""

    def __init__(
        self, buses: Sequence[OpenBus], clock: Clock, rng: Random, limits: BatchLimits = LIMITS
    ) -> None:  # fmt: skip
        self._clock = clock
        self._limits = limits
        self._wires = [_Wire(number, opener, clock, rng, limits.frames) for number, opener in enumerate(buses)]
        self._floor_ns = -1

    def status(self) -> FrameStatus:
        each = [wire.status for wire in self._wires]
        reasons = "; ".join(status.reason for status in each if status.reason)
        return FrameStatus(
            all(status.connected for status in each),
            reasons,
            sum(status.received for status in each),
            sum(status.missed for status in each),
            0,
            sum(status.losses for status in each),
            sum(status.remote for status in each),
            sum(status.errors for status in each),
            sum(status.bus_offs for status in each),
            self._floor_ns,
        )

    async def batches(self) -> AsyncGenerator[Frames, None]:
        ready = asyncio.Event()
        for wire in self._wires:
            wire.begin()
        try:
            while True:
                await self._until_ready(ready)
                # More comes meanwhile, and a wake for each frame would cost more than its decoding.
                await self._clock.sleep_until(self._clock.boot_ns() + self._limits.latency_ns)
                ready.clear()
                for frames in self._drained():
                    yield frames
        finally:
            self.close()

    async def begin(self, from_ns: int) -> None:
        raise UsageFault("A CAN bus waits for nobody: record it, and replay the recording in lockstep.")

    async def advance(self, t_ns: int) -> Frames:
        raise SourceLost(f"A CAN bus can't be advanced to {t_ns} ns: record it, and replay the recording.")

    def close(self) -> None:
        for wire in self._wires:
            wire.close()

    async def _until_ready(self, ready: asyncio.Event) -> None:
        """Until there is something to read, or it is time to open a lost bus again."""
        due = [due_ns for wire in self._wires if (due_ns := wire.stay_open(ready)) is not None]
        if not due:
            await ready.wait()
            return
        timer = asyncio.ensure_future(self._clock.sleep_until(min(due)))
        timer.add_done_callback(lambda _: ready.set())
        try:
            await ready.wait()
        finally:
            timer.cancel()

    def _drained(self) -> list[Frames]:
        frames = concat([wire.drain() for wire in self._wires])
        if not len(frames):
            return []
        # A bus read later may have older frames: what was handed on stays the past.
        frames = replace(frames, t_ns=np.maximum(frames.t_ns, self._floor_ns))
        self._floor_ns = int(frames.t_ns[-1])
        return list(portions(frames, self._limits.frames))


class _Wire:
    """One bus: its socket, opened again whenever its interface comes back, and what it counted."""

    def __init__(self, number: int, opener: OpenBus, clock: Clock, rng: Random, most: int) -> None:
        self.status = FrameStatus(connected=False, reason="not started")
        self._number = number
        self._open = opener
        self._clock = clock
        self._redial = Redial(clock, rng)
        self._reader = DatagramReader(most, CANFD_MTU)
        self._socket: socket.socket | None = None
        self._due_ns = 0
        self._drained_ns = 0
        self._dropped = 0

    def begin(self) -> None:
        """The next try to open is due at once."""
        self._redial.heard()
        self._due_ns = 0

    def stay_open(self, ready: asyncio.Event) -> int | None:
        """Opens what isn't open, if its time has come. When to try again; None while it is open."""
        if self._socket is None and self._clock.boot_ns() >= self._due_ns:
            self._try()
        if self._socket is None:
            return self._due_ns
        asyncio.get_running_loop().add_reader(self._socket, self._woken, self._socket, ready)
        return None

    @staticmethod
    def _woken(bus: socket.socket, ready: asyncio.Event) -> None:
        """Once: as long as something waits to be read the loop would call again and again."""
        asyncio.get_running_loop().remove_reader(bus)
        ready.set()

    def drain(self) -> Frames:
        """What waits now, but not for ever from a bus that is faster than us."""
        parts: list[Frames] = []
        while self._socket is not None and len(parts) < _MOST_READS:
            if (frames := self._received(self._socket)) is None:
                break
            parts.append(frames)
        return concat(parts)

    def close(self) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(RuntimeError):  # no loop runs any more
            asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        self.status = replace(self.status, connected=False)

    def _try(self) -> None:
        self._due_ns = self._redial.next_ns()
        try:
            self._socket = self._open()
        except SourceLost as lost:
            self.status = replace(self.status, reason=str(lost))
            return
        listen_closely(self._socket)
        self._drained_ns, self._dropped = self._clock.boot_ns(), 0
        self.status = replace(self.status, connected=True, reason="")

    def _received(self, bus: socket.socket) -> Frames | None:
        now_ns, wall_ns = self._clock.boot_ns(), self._clock.wall_ns()
        try:
            datagrams = self._reader.receive(bus.fileno())
        except OSError as error:
            self._lose(error)
            return None
        if datagrams is None:
            self._drained_ns = now_ns
            return None
        self._redial.heard()
        stamps = boot_times(datagrams.wall_ns, wall_ns, now_ns, self._drained_ns)
        self._drained_ns = int(stamps[-1])
        frames, counted = sorted_out(datagrams, stamps, self._number, self.status)
        dropped = self._dropped if datagrams.dropped is None else datagrams.dropped
        missed = counted.missed + drops_between(self._dropped, dropped)
        self._dropped = dropped
        self.status = replace(counted, missed=missed)
        return frames

    def _lose(self, error: OSError) -> None:
        """An interface that is down may be opened, and only then says so: `attempt` counts on until a frame came."""
        what = "is down" if error.errno in _DOWN else "failed"
        self.close()
        losses = self.status.losses + (self._redial.attempt == 0)
        reason = f"bus {self._number} {what} ({error.strerror}): look at ip -details link"
        self.status = replace(self.status, reason=reason, losses=losses)


def listen_closely(bus: socket.socket) -> None:
    """Asks for the kernel's stamps and its count of drops, and for room for what comes while we are busy."""
    bus.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    bus.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    try:
        bus.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except OSError:  # needs CAP_NET_ADMIN; without it, net.core.rmem_max is the most
        bus.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def drops_between(before: int, now: int) -> int:
    """Of two readings of the kernel's count of drops (SO_RXQ_OVFL): 32 bits, over a socket's life, and 0 after the
    last."""
    return (now - before) % (1 << 32)


def boot_times(
    stamps: NDArray[np.int64], wall_ns: int, boot_ns: int, earliest_ns: int
) -> NDArray[np.int64]:  # fmt: skip
    """Wall times of arrival as boot time, by both clocks as they are now.

    The wall clock may have jumped meanwhile: none came before `earliest_ns`, when nothing was left to read, and none
    after now. A frame without a stamp came now.
    """
    moved = np.where(stamps < 0, boot_ns, stamps + (boot_ns - wall_ns))
    return np.maximum.accumulate(np.clip(moved, min(earliest_ns, boot_ns), boot_ns))


def sorted_out(
    datagrams: Datagrams, t_ns: NDArray[np.int64], bus: int, before: FrameStatus
) -> tuple[Frames, FrameStatus]:
    """The data frames among them, and the counts with the others added."""
    rows = datagrams.data.view(CANFD_FRAME)[:, 0]
    whole = (datagrams.length == CAN_MTU) | (datagrams.length == CANFD_MTU)
    is_error = whole & ((rows["can_id"] & ERROR) != 0)
    is_remote = whole & ~is_error & ((rows["can_id"] & REMOTE) != 0)
    is_data = whole & ~is_error & ~is_remote
    status = replace(
        before,
        received=before.received + int(np.count_nonzero(is_data)),
        remote=before.remote + int(np.count_nonzero(is_remote)),
        errors=before.errors + int(np.count_nonzero(is_error)),
        bus_offs=before.bus_offs + int(np.count_nonzero(is_error & ((rows["can_id"] & _BUS_OFF) != 0))),
        last_t_ns=int(t_ns[-1]),
    )
    if not is_data.any():
        return no_frames(), status
    chosen = rows[is_data]
    is_classic = datagrams.length[is_data] == CAN_MTU
    chosen["length"][is_classic] = np.minimum(chosen["length"][is_classic], CLASSIC_BYTES)
    frames = frames_of(chosen, t_ns[is_data], np.full(len(chosen), bus, np.uint8))
    if is_classic.all():
        frames = replace(frames, data=np.ascontiguousarray(frames.data[:, :CLASSIC_BYTES]))
    return frames, status
