"""The vehicle's HTTPS line against a receiver that lies, stalls, trickles and hangs up: each is told, none is believed.

Whoever answers here has the receiver's own certificate: what it sends is the question, not who it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.https import MOST_HEAD_BYTES, PATIENCE_S, SLOWEST_BYTES_PER_S, Toll, VehicleLine
from agent.updatesource import ReceiverSource
from ecu.clock import SECOND_NS, Clock, OffsetClock, SystemClock
from ota.errors import FetchError, NotThere
from telemetry.links.link import ClockUntrusted, LinkError, Unreachable, Untrusted
from tests.receiver.fleet import Vehicle, a_receiver, a_vehicle

FILE = os.urandom(5000)
RECORD = 4000
"""Bytes of a TLS record of what is answered: as many come with each wait for the network."""
PATH = f"files/{'0' * 64}"


@dataclass
class Scripted:
    """Answers the connections one after the other, each question with the next of its answers, and hangs up."""

    listening: socket.socket
    context: ssl.SSLContext
    connections: list[list[bytes]] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    stays: threading.Event = field(default_factory=threading.Event)
    pace: Callable[[int], None] = lambda sent: None
    """Asked before each record, with how many bytes of the answer went before it: returns when it may go."""

    @property
    def port(self) -> int:
        return int(self.listening.getsockname()[1])

    def serve(self) -> None:
        for answers in self.connections:
            accepted, _ = self.listening.accept()
            # Whoever asked may have had enough.
            with contextlib.suppress(OSError), accepted, self.context.wrap_socket(accepted, server_side=True) as wire:
                self._answer(wire, answers)

    def _answer(self, wire: ssl.SSLSocket, answers: list[bytes]) -> None:
        for answer in answers:
            heard = b""
            while not heard.endswith(b"\r\n\r\n"):
                heard += (came := wire.recv(4096))
                if not came:
                    return
            self.heard.append(heard)
            for at in range(0, len(answer), RECORD):
                self.pace(at)
                wire.sendall(answer[at : at + RECORD])
        self.stays.wait(10)


@dataclass
class Rig:
    """A paired vehicle, and whoever answers in its receiver's place."""

    vehicle: Vehicle
    server: Scripted

    def line(
        self, clock: Clock | None = None, host: str = "", timeout_s: float = 5, toll: Toll | None = None
    ) -> VehicleLine:
        host = host or self.vehicle.paired.host
        return VehicleLine(host, self.server.port, self.vehicle.context(), clock or SystemClock(), timeout_s, toll=toll)

    def source(self, clock: Clock | None = None) -> ReceiverSource:
        paired = self.vehicle.paired
        return ReceiverSource(paired.host, self.server.port, self.vehicle.context(), clock or SystemClock(), 5)

    async def says(self, *connections: list[bytes], act: Callable[[], object], hangs_up: bool = True) -> None:
        """What `act` makes of a server that gives those answers on those connections."""
        self.server.connections[:] = connections
        self.server.stays.clear()
        if hangs_up:
            self.server.stays.set()
        serving = asyncio.create_task(asyncio.to_thread(self.server.serve))
        try:
            await asyncio.to_thread(act)
        finally:
            self.server.stays.set()
            await serving


@asynccontextmanager
async def a_rig(folder: Path) -> AsyncIterator[Rig]:
    async with a_receiver(folder) as receiver:
        vehicle = await a_vehicle(receiver, folder)
        context = receiver.authority.server_context((vehicle.paired.host,), ssl.CERT_OPTIONAL)
        with socket.create_server((vehicle.paired.host, 0)) as listening:
            listening.settimeout(5)
            yield Rig(vehicle, Scripted(listening, context))


def answer(status: int, body: bytes, length: int | None = None, **headers: str) -> bytes:
    told = {"content-length": str(len(body) if length is None else length)}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in told.items() if value), "", ""]
    return "\r\n".join(lines).encode() + body


def part(first: int, end: int, body: bytes | None = None, content_encoding: str = "") -> bytes:
    body = FILE[first:end] if body is None else body
    where = f"bytes {first}-{end - 1}/{len(FILE)}"
    return answer(206, body, content_range=where, content_encoding=content_encoding)


@dataclass
class Purse:
    """A Toll that adds up."""

    paid: int = 0

    def carried(self, size: int) -> None:
        self.paid += size

    def failed(self, failure: LinkError) -> None:
        raise AssertionError(failure)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_what_came_is_paid_for_although_the_answer_was_its_connections_last(
    tmp_path: Path, connection: str
) -> None:
    # Mutation: behind a proxy that hangs up after each answer a whole release costs nothing.
    async with a_rig(tmp_path) as rig:
        purse = Purse()
        line = rig.line(toll=purse)

        def read() -> None:
            response = line.ask("GET", "/")
            while line.read(response, 2 * len(FILE)):
                pass

        await rig.says([answer(200, FILE, connection=connection)], act=read)
        line.close()
        assert purse.paid > len(FILE)


# --- answers to a question for a part ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "is_right"),
    [
        (part(1000, 3000), True),
        (answer(200, FILE), True),
        (part(1000, 3000, FILE[1000:]), True),  # more than was asked for isn't read
        (part(1000, 5000), True),
        (part(1000, 2000), True),  # the file may end there: whoever asked knows
        (part(0, 2000), False),
        (part(1001, 3001), False),
        (answer(206, FILE[1000:3000]), False),
        (answer(206, FILE[1000:3000], content_range="bytes 1000-"), False),
        (answer(206, FILE[1000:3000], content_range=f"bytes {'9' * 5000}-{'9' * 5000}/*"), False),
        (answer(206, FILE[1000:3000], content_range="pages 1000-2999/5000"), False),
        (part(1000, 3000, content_encoding="gzip"), False),
        (answer(200, FILE, content_encoding="br"), False),
        (answer(200, FILE, content_encoding="identity"), True),
        (answer(301, b"", location="https://example.org/"), False),
        (answer(204, b""), False),
        (answer(500, b"why"), False),
    ],
)
async def test_what_comes_is_what_was_asked_for_or_nothing(tmp_path: Path, said: bytes, is_right: bool) -> None:
    async with a_rig(tmp_path) as rig:
        source = rig.source()

        def read() -> None:
            got = b""
            try:
                for come in source.read(PATH, 1000, 2000):
                    got += come
            except FetchError:
                assert not is_right
                assert got == b""
            else:
                assert is_right
                assert got == FILE[1000 : 1000 + len(got)]
                assert len(got) in (1000, 2000)

        await rig.says([said], act=read)
        assert len(rig.server.heard) == 1, "no redirect is followed, nothing is asked twice"
        assert b"range: bytes=1000-2999\r\n" in rig.server.heard[0]
        source.close()


async def test_of_a_longer_answer_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    body = os.urandom(300_000)
    async with a_rig(tmp_path) as rig:
        source = rig.source()

        def read() -> None:
            assert b"".join(source.read(PATH, 70_000, 150_000)) == body[70_000:220_000]

        await rig.says([answer(200, body)], act=read)
        source.close()


@pytest.mark.parametrize(
    "said",
    [
        answer(200, FILE[:1000], length=5000),
        answer(200, b"", length=5000),
        answer(200, FILE, length=-1),
        answer(200, FILE).replace(b"content-length: 5000\r\n", b""),
        answer(200, FILE).replace(b"content-length: 5000", b"content-length: many"),
        answer(200, b"-1\r\n" + FILE, content_length="", transfer_encoding="chunked"),
        answer(200, b"-5\r\n" + FILE, content_length="", transfer_encoding="chunked"),
        answer(200, b"1388\r\n" + FILE + b"\r\n0\r\n\r\n", content_length="", transfer_encoding="chunked"),
        b"HTTP/1.1 200",
        b"\x00" * 100,
        b"HTTP/2 200\r\n\r\n",
    ],
)
async def test_an_answer_that_is_cut_is_told_from_one_that_ends(tmp_path: Path, said: bytes) -> None:
    """A file that stopped within would be taken for one that somebody has tampered with."""
    async with a_rig(tmp_path) as rig:
        source = rig.source()

        def read() -> None:
            with pytest.raises(FetchError):
                b"".join(source.read("director/timestamp.json", 0, 1 << 30))

        await rig.says([said], act=read)
        source.close()


async def test_a_name_that_can_be_no_path_is_no_file(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        source = rig.source()

        def read() -> None:
            for name in ("é", "\ud800", "a b", "\r\nhost: x", "%2e%2e"):
                with pytest.raises(NotThere):
                    list(source.read(f"targets/model/{name}.json", 0, 10))

        await rig.says([answer(404, b"{}")] * 5, act=read)
        assert all(heard.count(b"\r\nhost: ") + heard.count(b"\r\nHost: ") == 1 for heard in rig.server.heard)
        source.close()


# --- time and size ----------------------------------------------------------------------------------


class Waits(OffsetClock):
    """Each look at it is so much later than the one before: as if every wait had been that long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(SystemClock())
        self._each_ns = int(seconds * SECOND_NS)
        self._now_ns = 0

    def boot_ns(self) -> int:
        self._now_ns += self._each_ns
        return self._now_ns


async def test_who_sends_too_slowly_for_too_long_is_given_up_and_who_is_only_slow_is_not(tmp_path: Path) -> None:
    body = os.urandom(100 * RECORD)
    async with a_rig(tmp_path) as rig:
        for pace, is_given_up in ((0.5 * SLOWEST_BYTES_PER_S, True), (2.0 * SLOWEST_BYTES_PER_S, False)):
            line = rig.line(Waits(RECORD / pace))

            def read(line: VehicleLine = line, is_given_up: bool = is_given_up) -> None:
                response, came = line.ask("GET", "/"), 0
                try:
                    while data := line.read(response, 1 << 20):
                        came += len(data)
                except Unreachable:
                    assert is_given_up
                else:
                    assert not is_given_up
                    assert came == len(body)

            await rig.says([answer(200, body)], act=read)
            line.close()


async def test_a_head_may_trickle_no_longer_than_the_patience(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        line = rig.line(Waits(2 * PATIENCE_S))

        def ask() -> None:
            with pytest.raises(Unreachable, match="in time"):
                line.ask("GET", "/")

        await rig.says([answer(200, FILE)], act=ask)


async def test_a_head_without_end_is_given_up(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        line = rig.line()

        def ask() -> None:
            with pytest.raises(Unreachable, match="a head of more than"):
                line.ask("GET", "/")

        go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
        await rig.says([go_on * (2 * MOST_HEAD_BYTES // len(go_on))], act=ask, hangs_up=False)


async def test_a_receiver_that_says_nothing_is_given_up_in_time(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        line = rig.line(timeout_s=0.2)

        def ask() -> None:
            with pytest.raises(Unreachable, match="in time"):
                line.ask("GET", "/")

        await rig.says([b""], act=ask, hangs_up=False)


# --- one connection ---------------------------------------------------------------------------------


async def test_one_connection_serves_every_question_and_one_with_a_rest_on_it_none(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        source = rig.source()

        def read() -> None:
            for _ in range(3):
                assert b"".join(source.read(PATH, 0, 5000)) == FILE
            # Left in the middle, and closed late: another question was asked by then.
            left = source.read(PATH, 0, 5000)
            next(left)
            assert b"".join(source.read(PATH, 100, 10)) == FILE[100:110]
            left.close()  # type: ignore[attr-defined]
            assert b"".join(source.read(PATH, 200, 10)) == FILE[200:210]

        for more in ({}, {"connection": "close"}):
            rig.server.heard.clear()
            long = answer(200, FILE + bytes(1_000_000), None, **more)
            await rig.says(
                [answer(200, FILE)] * 3 + [long],
                [part(100, 110), part(200, 210)],
                act=read,
            )
            assert len(rig.server.heard) == 6
        source.close()


async def test_a_kept_connection_that_ends_is_made_anew_once(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        line = rig.line()

        def ask() -> None:
            assert line.read(line.ask("GET", "/1"), 9) == b"1"
            assert line.read(line.ask("GET", "/2"), 9) == b"2"
            with pytest.raises(Unreachable):
                line.ask("GET", "/3")

        hung_up: list[bytes] = []
        await rig.says([answer(200, b"1")], [answer(200, b"2")], hung_up, act=ask)
        assert [heard.split()[1] for heard in rig.server.heard] == [b"/1", b"/2"]


async def test_no_connection_is_used_whose_dates_nobody_looked_at(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        clock = OffsetClock(SystemClock())
        line = rig.line(clock)

        def ask() -> None:
            assert line.read(line.ask("GET", "/"), 9) == b"1"
            clock.correct(SystemClock().wall_ns() + 3650 * 86_400 * SECOND_NS)
            with pytest.raises(Untrusted):
                line.ask("GET", "/")

        await rig.says([answer(200, b"1", connection="close")], [answer(200, b"2")], act=ask)
        assert len(rig.server.heard) == 1


async def test_what_was_closed_asks_nothing_more_and_what_was_interrupted_does(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        line, source = rig.line(), rig.source()

        def ask() -> None:
            assert line.read(line.ask("GET", "/"), 9) == b"1"
            line.interrupt()
            assert line.read(line.ask("GET", "/"), 9) == b"2"
            reading = source.read(PATH, 0, 500_000)
            next(reading)
            # Between two parts: nobody waits in it now.
            source.close()
            with pytest.raises(FetchError):
                list(reading)
            with pytest.raises(FetchError, match="Nothing more is asked"):
                list(source.read(PATH, 0, 10))

        long = answer(200, FILE + bytes(1_000_000))
        await rig.says([answer(200, b"1")], [answer(200, b"2")], [long], act=ask)
        line.close()


async def test_who_is_interrupted_while_connecting_asks_nothing(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        line = rig.line()

        def accept() -> None:
            accepted, _ = rig.server.listening.accept()
            line.interrupt()
            with (
                contextlib.suppress(ConnectionError, ssl.SSLError),
                accepted,
                rig.server.context.wrap_socket(accepted, server_side=True) as wire,
            ):
                rig.server.heard += [heard] if (heard := wire.recv(10)) else []

        accepting = asyncio.create_task(asyncio.to_thread(accept))
        with pytest.raises(Unreachable, match="Nothing more is asked"):
            await asyncio.to_thread(line.ask, "GET", "/")
        await accepting
        assert rig.server.heard == []


async def test_who_waits_for_bytes_when_it_is_closed_is_told_soon(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        source, waits = rig.source(), threading.Event()

        def read() -> None:
            def close() -> None:
                waits.wait(5)
                source.close()

            def all_of_it() -> None:
                for _ in source.read(PATH, 0, 100_000):
                    waits.set()

            closing = threading.Thread(target=close)
            closing.start()
            with pytest.raises(FetchError):
                all_of_it()
            closing.join()

        await rig.says([answer(200, bytes(65536 + 10), length=100_000)], act=read, hangs_up=False)


# --- who answers ------------------------------------------------------------------------------------


async def test_a_certificate_for_another_name_or_another_day_is_not_believed(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:

        def asked(line: VehicleLine) -> type[LinkError]:
            with pytest.raises(LinkError) as told:
                line.ask("GET", "/")
            return type(told.value)

        def ask() -> None:
            assert asked(rig.line(host="127.0.0.2")) is Untrusted
            for days, wanted in ((-2, ClockUntrusted), (3650, Untrusted)):
                assert asked(rig.line(OffsetClock(SystemClock(), days * 86_400 * SECOND_NS))) is wanted

        rig.server.listening.close()
        rig.server.listening = socket.create_server(("", 0))
        with rig.server.listening:
            serving = asyncio.create_task(asyncio.to_thread(_shake_hands, rig.server, 3))
            await asyncio.to_thread(ask)
            await serving
        assert rig.server.heard == []


def _shake_hands(server: Scripted, times: int) -> None:
    for _ in range(times):
        accepted, _ = server.listening.accept()
        with accepted:
            try:
                with server.context.wrap_socket(accepted, server_side=True) as wire:
                    server.heard += [heard] if (heard := wire.recv(10)) else []
            except (ssl.SSLError, http.client.HTTPException, ConnectionError):
                pass
