"""A bad network on demand: a TCP proxy on loopback that cuts, stalls, delays and throttles, and changes while it runs.

A proxy can't drop packets, so each fault shows what an application would see of it: a stalled flow is held and comes
through later, as TCP's own repeats would bring it; a cut resets connections and refuses new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from types import TracebackType
from typing import Final, Self, assert_never

from ecu.clock import SECOND_NS, Clock, SystemClock

CHUNK_BYTES: Final = 256 * 1024
HELD_BYTES: Final = 4 * 1024 * 1024
"""How much one direction of a connection holds back before its sender feels it."""
PACKET_BYTES: Final = 1448
"""What a packet carries of a stream, on Ethernet with TCP's time stamps."""
SLICE_NS: Final = 50_000_000
"""A throttled flow goes in pieces of this long, so that a new rate takes effect at once."""


# --- what the network is like ----------------------------------------------------------------------------------------


class Path(Enum):
    """What becomes of connections."""

    OPEN = "open"
    CUT = "cut"  # existing ones are reset, new ones refused
    BLACKHOLE = "blackhole"  # existing ones stand still, new ones get no answer


@dataclass(frozen=True, slots=True)
class Flow:
    """One direction of an open path."""

    latency_ns: int = 0
    bytes_per_s: float | None = None
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class Conditions:
    """The whole network between client and target; `up` is towards the target."""

    path: Path = Path.OPEN
    up: Flow = field(default_factory=Flow)
    down: Flow = field(default_factory=Flow)


@dataclass(slots=True)
class Counters:
    """What the proxy did. Refused connections never reach it, so nobody can count them here."""

    accepted: int = 0
    reset: int = 0
    half_opened: int = 0
    up_bytes: int = 0
    down_bytes: int = 0


class Throttle:
    """A token bucket that starts empty and saves nothing: over any time, its rate and at most one piece pass."""

    def __init__(self) -> None:
        self._free_at_ns = 0

    def reserve(self, size: int, bytes_per_s: float, now_ns: int) -> int:
        """The boot time at which `size` bytes may pass. They are taken as passed then."""
        self._free_at_ns = max(self._free_at_ns, now_ns) + round(size / bytes_per_s * SECOND_NS)
        return self._free_at_ns


def piece_bytes(available: int, bytes_per_s: float | None) -> int:
    """How much of `available` goes at once: all, or what a throttled flow carries in one slice."""
    if bytes_per_s is None:
        return available
    return min(available, max(1, int(bytes_per_s * SLICE_NS / SECOND_NS)))


class Bottleneck:
    """One line for the upward flows of all proxies that share it: first come, first served, packet by packet, at its
    rate. Its queue is bounded; who finds it full waits before it, as a sender does whose packets were dropped."""

    def __init__(self, bytes_per_s: float, queue_bytes: int, clock: Clock | None = None) -> None:
        self.bytes_per_s = bytes_per_s
        self.carried_bytes = 0
        self._queue_ns = int(queue_bytes / bytes_per_s * SECOND_NS)
        self._clock = clock or SystemClock()
        self._free_at_ns = 0
        self._door = asyncio.Lock()

    async def carry(self, size: int) -> int:
        """Takes a packet in; the boot time at which it has passed."""
        async with self._door:
            passed_ns = max(self._free_at_ns, self._clock.boot_ns()) + round(size / self.bytes_per_s * SECOND_NS)
            await self._clock.sleep_until(passed_ns - self._queue_ns)
            self._free_at_ns = passed_ns
            self.carried_bytes += size
            return passed_ns


# --- the proxy -------------------------------------------------------------------------------------------------------


class FaultProxy:
    """Stands before a target: clients connect to `port`, a free one unless given, on `host`.

        async with FaultProxy("127.0.0.1", 8883) as proxy:
            ...
            proxy.cut()

    Each switch takes effect at once, on existing connections too; `port` stays the same throughout. A client whose
    target can't be reached is reset. Upward everything goes through the `bottleneck`, if there is one.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        clock: Clock | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        bottleneck: Bottleneck | None = None,
    ) -> None:
        self.counters = Counters()
        self._place = (host, port)
        self._target = (target_host, target_port)
        self._bottleneck = bottleneck
        self._clock = clock or SystemClock()
        self._conditions = Conditions()
        self._changed = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        self._door = _Door(self._welcome, *self._place)
        await self._tasks.__aenter__()
        self._door.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._door.close()
        self._reset(self._connections)
        # Without the block's own error, which the group would wrap in another one.
        await self._tasks.__aexit__(None, None, None)

    @property
    def port(self) -> int:
        return self._door.port

    @property
    def conditions(self) -> Conditions:
        return self._conditions

    @property
    def connections(self) -> int:
        return len(self._connections)

    def cut(self) -> None:
        self.apply(replace(self._conditions, path=Path.CUT))

    def blackhole(self) -> None:
        self.apply(replace(self._conditions, path=Path.BLACKHOLE))

    def shape(self, *, up: Flow | None = None, down: Flow | None = None) -> None:
        """Changes the given directions and leaves the path as it is."""
        now = self._conditions
        self.apply(replace(now, up=up or now.up, down=down or now.down))

    def half_open(self) -> None:
        """The connections of this moment are dead and neither end is told; new ones are as good as the path is."""
        for connection in self._connections:
            self.counters.half_opened += not connection.dead
            connection.dead = True

    def restore(self) -> None:
        """A good network again: what stood still goes on, and the half-open learn of it by a reset."""
        self._reset({connection for connection in self._connections if connection.dead})
        self.apply(Conditions())

    def apply(self, conditions: Conditions) -> None:
        """The general switch."""
        was, self._conditions = self._conditions.path, conditions
        if was is not conditions.path:
            self._move_door(conditions.path)
        self._changed.set()
        self._changed = asyncio.Event()

    def _move_door(self, path: Path) -> None:
        match path:
            case Path.OPEN:
                self._door.open()
            case Path.CUT:
                self._door.refuse()
                self._reset(self._connections)
            case Path.BLACKHOLE:
                self._door.ignore()
            case _:
                assert_never(path)

    def _welcome(self, client: socket.socket) -> None:
        self.counters.accepted += 1
        connection = _Connection(client)
        connection.task = self._tasks.create_task(self._serve(connection))
        self._connections.add(connection)
        # A task cancelled before its first step never runs its own `finally`.
        connection.task.add_done_callback(lambda _: self._forget(connection))

    def _forget(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        connection.close()

    def _reset(self, connections: set[_Connection]) -> None:
        for connection in connections:
            self.counters.reset += 1
            connection.resets = True
            if connection.task is not None:
                connection.task.cancel()

    async def _serve(self, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        client, target = connection.client, connection.target
        try:
            await loop.sock_connect(target, self._target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(connection, client, target, upward=True))
                both.create_task(self._carry(connection, target, client, upward=False))
        except* OSError:  # one end went away, and the other hears it the same way
            self.counters.reset += 1
            connection.resets = True

    async def _carry(self, connection: _Connection, source: socket.socket, sink: socket.socket, upward: bool) -> None:
        held = _Held()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take_in(connection, source, held, upward))
            both.create_task(self._let_out(connection, held, sink, upward))

    async def _take_in(self, connection: _Connection, source: socket.socket, held: _Held, upward: bool) -> None:
        loop = asyncio.get_running_loop()
        data = b"more"
        while data:
            await self._until_moving(connection, upward)
            line = self._bottleneck if upward else None
            data = await loop.sock_recv(source, CHUNK_BYTES if line is None else PACKET_BYTES)
            passed_ns = self._clock.boot_ns() if line is None else await line.carry(len(data))
            await held.put(passed_ns + self._flow(upward).latency_ns, data)

    async def _let_out(self, connection: _Connection, held: _Held, sink: socket.socket, upward: bool) -> None:
        throttle = Throttle()
        while True:
            due_ns, data = await held.take()
            await self._clock.sleep_until(due_ns)
            if not data:
                await self._until_moving(connection, upward)
                sink.shutdown(socket.SHUT_WR)
                return
            rest = memoryview(data)
            while rest:
                rest = rest[await self._send_piece(connection, throttle, rest, sink, upward) :]

    async def _send_piece(
        self, connection: _Connection, throttle: Throttle, rest: memoryview, sink: socket.socket, upward: bool
    ) -> int:
        rate = self._flow(upward).bytes_per_s
        size = piece_bytes(len(rest), rate)
        if rate is not None:
            await self._clock.sleep_until(throttle.reserve(size, rate, self._clock.boot_ns()))
        await self._until_moving(connection, upward)
        await asyncio.get_running_loop().sock_sendall(sink, rest[:size])
        self._count(size, upward)
        return size

    def _flow(self, upward: bool) -> Flow:
        return self._conditions.up if upward else self._conditions.down

    def _count(self, size: int, upward: bool) -> None:
        if upward:
            self.counters.up_bytes += size
        else:
            self.counters.down_bytes += size

    async def _until_moving(self, connection: _Connection, upward: bool) -> None:
        while connection.dead or self._conditions.path is Path.BLACKHOLE or self._flow(upward).stalled:
            await self._changed.wait()


class _Connection:
    """A client's socket and the target's, closed together: gently, or so that both ends see a reset."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.target = _stream_socket()
        self.task: asyncio.Task[None] | None = None
        self.dead = False
        self.resets = False

    def close(self) -> None:
        for end in (self.client, self.target):
            if self.resets:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


class _Held:
    """Bytes on their way, each with the time at which it may come through. Bounded; empty bytes are the end."""

    def __init__(self) -> None:
        self._items: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._came = asyncio.Event()
        self._went = asyncio.Event()

    async def put(self, due_ns: int, data: bytes) -> None:
        while self._size >= HELD_BYTES:
            self._went.clear()
            await self._went.wait()
        self._items.append((due_ns, data))
        self._size += len(data)
        self._came.set()

    async def take(self) -> tuple[int, bytes]:
        while not self._items:
            self._came.clear()
            await self._came.wait()
        due_ns, data = self._items.popleft()
        self._size -= len(data)
        self._went.set()
        return due_ns, data


class _Door:
    """The listening side, which can be open, refuse, or not answer, without ever losing its port to another process."""

    def __init__(self, on_client: Callable[[socket.socket], None], host: str, port: int) -> None:
        self._on_client = on_client
        self._host = host
        # Bound but never listening: the kernel refuses whoever comes while nothing else listens on this port.
        self._keeper = _stream_socket()
        self._keeper.bind((host, port))
        self.port: int = self._keeper.getsockname()[1]
        self._listener: socket.socket | None = None
        self._filler: socket.socket | None = None

    def open(self) -> None:
        self.refuse()
        self._listener = self._listening(backlog=256)
        asyncio.get_running_loop().add_reader(self._listener, self._accept_all)

    def refuse(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if self._filler is not None:
            self._filler.close()
            self._filler = None

    def ignore(self) -> None:
        if self._listener is not None:
            self._accept_all()
        self.refuse()
        # A full queue is what makes Linux drop a SYN without an answer; a backlog of 0 is full with one connection.
        self._listener = self._listening(backlog=0)
        self._filler = _stream_socket()
        self._filler.connect_ex((self._host, self.port))

    def close(self) -> None:
        self.refuse()
        self._keeper.close()

    def _listening(self, backlog: int) -> socket.socket:
        listener = _stream_socket()
        listener.bind((self._host, self.port))
        listener.listen(backlog)
        return listener

    def _accept_all(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                client, _ = self._listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._on_client(client)


def _stream_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
