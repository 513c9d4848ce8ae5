"""A simulated CAN bus as a process of its own: the frames of a recording, over a Unix SOCK_SEQPACKET socket.

    python -m simulator.bus --recording FILE --socket PATH [--fd N] [--rate R] [--loop]

Listens at PATH, and says so in one line on standard output; speaks at once over the connected descriptor N. Every
reader meets the recording from its start. A reader that is far behind loses frames, as on a real bus.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ecu.channel import Advance, BadMessage, ChannelClosed, Done
from ecu.clock import MILLISECOND_NS, Clock, SystemClock
from ecu.errors import EnvironmentFault, OutriderError, UsageFault
from ecu.process import enter_child
from simulator.vehicle import listening_at, run
from telemetry.signals.conversation import Conversation
from telemetry.signals.frames import Frames
from telemetry.signals.framesource import BatchLimits, FrameSource, portions
from telemetry.signals.messages import MAX_FRAMES_A_MESSAGE, Begin, SourceHello, ToSource
from telemetry.signals.recording import open_recording
from telemetry.signals.replay import RecordingSource
from telemetry.signals.unixbus import message_of

TICK: BatchLimits = BatchLimits(latency_ns=5 * MILLISECOND_NS, frames=MAX_FRAMES_A_MESSAGE)


class SimulatedBus:
    """Tells the frames of a source to whoever connects, each reader from a source of its own.

    `missed` counts frames that a reader had no room for.
    """

    def __init__(self, made: Callable[[], FrameSource], clock: Clock) -> None:
        self.missed = 0
        self._made = made
        self._clock = clock

    async def serve(self, listening: socket.socket) -> None:
        """Takes readers for ever."""
        listening.setblocking(False)
        async with asyncio.TaskGroup() as readers:
            while True:
                end, _ = await asyncio.get_running_loop().sock_accept(listening)
                readers.create_task(self.tell(end))

    async def tell(self, end: socket.socket) -> None:
        """Speaks with one reader until it goes."""
        conversation: Conversation[ToSource] = Conversation(end, ToSource)
        source = self._made()
        # A reader that hangs up or babbles ends its own conversation; it will come again.
        with (
            contextlib.closing(conversation),
            contextlib.closing(source),
            contextlib.suppress(ChannelClosed, BadMessage),
        ):
            await conversation.send(SourceHello(self._clock.boot_ns(), TICK.latency_ns))
            match await conversation.receive():
                case Begin(realtime=True):
                    await self._in_real_time(conversation, source)
                case Begin(from_ns=from_ns):
                    await source.begin(from_ns)
                    await self._in_lockstep(conversation, source)
                case Advance():
                    return

    async def _in_real_time(self, conversation: Conversation[ToSource], source: FrameSource) -> None:
        seq = 0
        async with contextlib.aclosing(source.batches()) as batches:
            async for frames in batches:
                for portion in portions(frames, MAX_FRAMES_A_MESSAGE):
                    if not conversation.try_send(message_of(portion, seq)):
                        self.missed += len(portion)
                    seq += len(portion)
        await conversation.receive()  # a bus falls silent, it doesn't hang up

    async def _in_lockstep(self, conversation: Conversation[ToSource], source: FrameSource) -> None:
        seq = 0
        while isinstance(grant := await conversation.receive(), Advance):
            seq = await self._send_all(conversation, await source.advance(grant.t_ns), seq)
            await conversation.send(Done(grant.t_ns))

    async def _send_all(self, conversation: Conversation[ToSource], frames: Frames, seq: int) -> int:
        for portion in portions(frames, MAX_FRAMES_A_MESSAGE):
            await conversation.send(message_of(portion, seq))
            seq += len(portion)
        return seq


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator.bus", description=__doc__.partition("\n")[0])
    parser.add_argument("--recording", type=Path, required=True, help="a recording of raw frames")
    parser.add_argument("--socket", type=Path, help="listen here (Unix SOCK_SEQPACKET)")
    parser.add_argument("--fd", type=int, help="speak over this inherited, connected descriptor")
    parser.add_argument("--rate", type=float, default=1.0, help="how much faster than it was (default 1)")
    parser.add_argument("--loop", action="store_true", help="again and again")
    return parser.parse_args(argv)


def _serve_as_told(arguments: argparse.Namespace) -> None:
    if arguments.socket is None and arguments.fd is None:
        raise UsageFault("A bus needs somebody to talk to: give --socket PATH or --fd N.")
    if not arguments.rate > 0:
        raise UsageFault(f"--rate {arguments.rate}: give a number above 0.")
    try:
        recording = open_recording(arguments.recording.read_bytes(), str(arguments.recording))
    except OSError as error:
        raise EnvironmentFault(f"Can't read {arguments.recording}: {error.strerror}. Give a recording.") from error
    clock = SystemClock()
    bus = SimulatedBus(lambda: RecordingSource(recording, clock, arguments.rate, arguments.loop, TICK), clock)
    with contextlib.ExitStack() as stack:
        connected = stack.enter_context(socket.socket(fileno=arguments.fd)) if arguments.fd is not None else None
        listening = stack.enter_context(listening_at(arguments.socket)) if arguments.socket is not None else None
        if listening is not None:
            print(f"listening unix:{arguments.socket}", flush=True)
        asyncio.run(run(bus, listening, connected))


def main(argv: Sequence[str] | None = None) -> int:
    try:
        _serve_as_told(_arguments(argv))
    except OutriderError as error:
        print(f"simulator.bus: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    enter_child()
    sys.exit(main())
