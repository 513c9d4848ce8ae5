"""A simulated vehicle as a process of its own: what a signal gateway would say, over a Unix SOCK_SEQPACKET socket.

    python -m simulator.vehicle --socket PATH [--fd N] [--seed S] [--hard-brake-at T ...] [--period-ms P]

Listens at PATH, and says so in one line on standard output; speaks at once over the connected descriptor N. A reader
that went and came again meets the same drive, further on. In lockstep the drive begins at time 0 and a reader joins it
at its `from_ns`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import signal
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from ecu.channel import Advance, BadMessage, ChannelClosed, Done
from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock, SystemClock
from ecu.errors import EnvironmentFault, OutriderError, UsageFault
from ecu.process import enter_child
from simulator.motion import DrivePlan
from simulator.route import Route
from telemetry.signals import vss
from telemetry.signals.conversation import Conversation
from telemetry.signals.messages import Begin, Signals, SourceHello, ToSource

PERIOD_NS: Final = 50 * MILLISECOND_NS
MAX_READERS: Final = 8
_KMH_PER_MS: Final = 3.6
_FULL_PEDAL_MS2: Final = 9.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Who drives, where, and the boot time at which the drive began."""

    start_ns: int = 0
    drive: DrivePlan = field(default_factory=DrivePlan)
    route: Route = field(default_factory=Route)


def signals_at(t_ns: int, plan: Plan) -> dict[str, float]:
    """What the vehicle says at boot time `t_ns`, by VSS path; before the drive began it stands for its start.

    The same instant of the same plan always gives the same values. They are rounded as a CAN frame would round them.
    """
    motion = plan.drive.motion(max(0, t_ns - plan.start_ns) / SECOND_NS)
    place = plan.route.at(motion.driven_m)
    return {
        vss.SPEED: round(motion.speed_ms * _KMH_PER_MS, 2),
        vss.BRAKE_PEDAL: float(round(100.0 * min(1.0, motion.braking_ms2 / _FULL_PEDAL_MS2))),
        vss.LONGITUDINAL: round(motion.acceleration_ms2, 3),
        vss.LATITUDE: round(place.latitude, 7),
        vss.LONGITUDE: round(place.longitude, 7),
        vss.HEADING: round(place.heading, 1) % 360.0,
    }


class Vehicle:
    """Tells a plan's signals to whoever connects, each reader in its own time mode."""

    def __init__(self, plan: Plan, clock: Clock, period_ns: int = PERIOD_NS) -> None:
        self._plan = plan
        self._clock = clock
        self._period_ns = period_ns

    async def serve(self, listening: socket.socket) -> None:
        """Takes readers for ever, at most eight at once; the ninth waits its turn."""
        listening.setblocking(False)
        free = asyncio.Semaphore(MAX_READERS)
        async with asyncio.TaskGroup() as readers:
            while True:
                await free.acquire()
                end, _ = await asyncio.get_running_loop().sock_accept(listening)
                readers.create_task(self.tell(end)).add_done_callback(lambda _: free.release())

    async def tell(self, end: socket.socket) -> None:
        """Speaks with one reader until it goes."""
        conversation: Conversation[ToSource] = Conversation(end, ToSource)
        # A reader that hangs up or babbles ends its own conversation; it will come again.
        with contextlib.closing(conversation), contextlib.suppress(ChannelClosed, BadMessage):
            await conversation.send(SourceHello(self._clock.boot_ns(), self._period_ns))
            match await conversation.receive():
                case Begin(realtime=True, from_ns=from_ns):
                    await self._in_real_time(conversation, from_ns)
                case Begin(from_ns=from_ns):
                    await self._in_lockstep(conversation, replace(self._plan, start_ns=0), from_ns)
                case Advance():
                    return

    async def _in_real_time(self, conversation: Conversation[ToSource], from_ns: int) -> None:
        tick = 0
        while True:
            earliest_ns = max(from_ns, self._clock.boot_ns())
            # After a stall go on from now: what wasn't told then is missed, a gap in seq says so.
            tick = max(tick, -(-(earliest_ns - self._plan.start_ns) // self._period_ns))
            await self._clock.sleep_until(self._plan.start_ns + tick * self._period_ns)
            conversation.try_send(self._sample(tick, self._plan))
            tick += 1

    async def _in_lockstep(self, conversation: Conversation[ToSource], plan: Plan, from_ns: int) -> None:
        tick = -(-from_ns // self._period_ns)
        while True:
            grant = await conversation.receive()
            if not isinstance(grant, Advance):
                return
            while plan.start_ns + tick * self._period_ns <= grant.t_ns:
                await conversation.send(self._sample(tick, plan))
                tick += 1
            await conversation.send(Done(grant.t_ns))

    def _sample(self, tick: int, plan: Plan) -> Signals:
        t_ns = plan.start_ns + tick * self._period_ns
        return Signals(tick, t_ns, signals_at(t_ns, plan))


class Speaker(Protocol):
    """A process that tells readers something: a vehicle its signals, a bus its frames."""

    async def serve(self, listening: socket.socket) -> None: ...

    async def tell(self, end: socket.socket) -> None: ...


@contextlib.contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """A listening socket at `path`, taken over from a dead process if need be, gone afterwards.

    Raises EnvironmentFault when somebody living listens there, or it can't be made.
    """
    _remove_dead_socket(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listening.bind(str(path))
        listening.listen(MAX_READERS)
    except OSError as error:
        listening.close()
        raise EnvironmentFault(f"Can't listen at {path}: {error.strerror}. Choose another --socket.") from error
    try:
        yield listening
    finally:
        listening.close()
        path.unlink(missing_ok=True)


def _remove_dead_socket(path: Path) -> None:
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as probe:
        probe.setblocking(False)
        if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink(missing_ok=True)


async def run(vehicle: Speaker, listening: socket.socket | None, connected: socket.socket | None) -> None:
    """Until SIGTERM or SIGINT; without a listening socket, until the one reader goes."""
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as group:
            if connected is not None:
                group.create_task(vehicle.tell(connected))
            if listening is not None:
                group.create_task(vehicle.serve(listening))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator.vehicle", description=__doc__.partition("\n")[0])
    parser.add_argument("--socket", type=Path, help="listen here (Unix SOCK_SEQPACKET)")
    parser.add_argument("--fd", type=int, help="speak over this inherited, connected descriptor")
    parser.add_argument("--seed", type=int, default=0, help="which drive (default 0)")
    parser.add_argument("--hard-brake-at", type=float, nargs="+", metavar="T", help="seconds of drive time")
    parser.add_argument("--period-ms", type=int, default=PERIOD_NS // MILLISECOND_NS, help="between samples")
    return parser.parse_args(argv)


def _vehicle(arguments: argparse.Namespace, clock: Clock) -> Vehicle:
    if arguments.period_ms < 1:
        raise UsageFault(f"--period-ms {arguments.period_ms}: give at least one millisecond.")
    try:
        drive = DrivePlan(arguments.seed, arguments.hard_brake_at)
    except ValueError as error:
        raise UsageFault(f"--hard-brake-at: {error}.") from error
    period_ns = arguments.period_ms * MILLISECOND_NS
    start_ns = clock.boot_ns() // period_ns * period_ns
    return Vehicle(Plan(start_ns, drive), clock, period_ns)


def _serve_as_told(arguments: argparse.Namespace) -> None:
    if arguments.socket is None and arguments.fd is None:
        raise UsageFault("A vehicle needs somebody to talk to: give --socket PATH or --fd N.")
    vehicle = _vehicle(arguments, SystemClock())
    with contextlib.ExitStack() as stack:
        connected = stack.enter_context(socket.socket(fileno=arguments.fd)) if arguments.fd is not None else None
        listening = stack.enter_context(listening_at(arguments.socket)) if arguments.socket is not None else None
        if listening is not None:
            print(f"listening unix:{arguments.socket}", flush=True)
        asyncio.run(run(vehicle, listening, connected))


def main(argv: Sequence[str] | None = None) -> int:
    try:
        _serve_as_told(_arguments(argv))
    except OutriderError as error:
        print(f"simulator.vehicle: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    enter_child()
    sys.exit(main())
