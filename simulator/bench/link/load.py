"""A load of publishes on many connections: `python -m simulator.bench.link.load`, one `Load` in, one `Felt` out (JSON).

Lean, so that it isn't what is measured: packets are made before the clock starts, one thread writes them as far as the
peer's receive maximum allows and counts what comes back.
"""

from __future__ import annotations

import resource
import selectors
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import mqtt5
import msgspec

from agent.pairing import Paired
from simulator.bench.link.blocks import BlockKind, make_blocks
from simulator.bench.link.fleet import vehicle_in
from simulator.bench.link.usage import cpu_s
from telemetry.records import Lane
from telemetry.wire import down_topic, unpack_receipt, up_topic

T = TypeVar("T", mqtt5.ConnAckPacket, mqtt5.SubAckPacket)

LANE: Final = Lane.P1
TIMEOUT_S: Final = 120.0
CONNECT_S: Final = 20.0
_PUBLISH: Final = 0x30
_PUBACK: Final = 0x40
_SLICE: Final = 1 << 18
_IDS: Final = 60_000


class Load(msgspec.Struct, frozen=True):
    """`messages` publishes on each vehicle's connection, `window` of them in flight at most, to who listens on `port`:
    the receiver, or a peer that shows its certificate. `peer_pid`: whose CPU time is counted."""

    vehicles: list[str]  # state folders
    port: int
    peer_pid: int
    kind: BlockKind
    messages: int
    window: int
    first_seq: int = 0
    receipts: bool = True


class Felt(msgspec.Struct, frozen=True):
    """What the load felt, first byte to last acknowledgement. Latencies are from sent to told, p50 and p99 in ms."""

    messages: int
    seconds: float
    peer_cpu_s: float
    own_cpu_s: float
    window: int
    acknowledged_ms: tuple[float, float]
    receipted_ms: tuple[float, float]

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def peer_cpu_ms_per_1000(self) -> float:
        return self.peer_cpu_s * 1e6 / self.messages


class LoadFailed(Exception):
    """The peer refused a message or hung up. The numbers would mean nothing."""


def put_on(load: Load) -> Felt:
    """The load in a process of its own. Raises LoadFailed."""
    command = [sys.executable, "-m", "simulator.bench.link.load"]
    done = subprocess.run(command, input=msgspec.json.encode(load), capture_output=True)
    if done.returncode != 0:
        raise LoadFailed(done.stderr.decode().strip().rpartition("\n")[2])
    return msgspec.json.decode(done.stdout, type=Felt)


class _Client:
    """One vehicle's connection."""

    def __init__(self, wire: ssl.SSLSocket, packets: list[bytes], window: int, records: int) -> None:
        self.wire = wire
        self.acked_ns: list[int] = []
        self.receipted_ns: list[int] = []  # how long each took
        self.sent_ns: list[int] = []
        self._packets = packets
        self._window = window
        self._records = records
        self._unread = b""
        self._unsent = memoryview(b"")

    def is_done(self, receipts: bool) -> bool:
        told = self.receipted_ns if receipts else self.acked_ns
        return min(len(self.acked_ns), len(told)) == len(self._packets)

    def wants_to_write(self) -> bool:
        return bool(self._unsent)

    def write(self) -> None:
        self._load_up()
        while self._unsent:
            try:
                self._unsent = self._unsent[self.wire.send(self._unsent[:_SLICE]) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            self._load_up()

    def read(self) -> None:
        try:
            while data := self.wire.recv(1 << 16):
                self._take(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        raise LoadFailed("the peer hung up")

    def _load_up(self) -> None:
        sent, most = len(self.sent_ns), min(len(self._packets), len(self.acked_ns) + self._window)
        if not self._unsent and sent < most:
            self._unsent = memoryview(b"".join(self._packets[sent:most]))
            self.sent_ns += [time.monotonic_ns()] * (most - sent)

    def _take(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        data = self._unread + data
        at = 0
        for first, start, end in packets_in(data):
            at = end
            if first == _PUBACK:
                if end - start > 2 and data[start + 2] >= 0x80:
                    raise LoadFailed(f"a publish was refused: {data[start:end]!r}")
                self.acked_ns.append(now_ns)
            elif first & 0xF0 == _PUBLISH:
                self._receipted(data[start:end], now_ns)
            else:
                raise LoadFailed(f"the peer said {data[start - 2 : end]!r}")
        self._unread = data[at:]

    def _receipted(self, publish: bytes, now_ns: int) -> None:
        topic = int.from_bytes(publish[:2], "big")
        for start, end in unpack_receipt(publish[2 + topic + 1 :]).ranges:
            blocks = (end - start) // self._records
            at = len(self.receipted_ns)
            self.receipted_ns += [now_ns - sent_ns for sent_ns in self.sent_ns[at : at + blocks]]


def packets_in(data: bytes) -> Iterator[tuple[int, int, int]]:
    """First byte, start and end of what follows the length, of each whole packet."""
    at, size = 0, len(data)
    while at + 2 <= size:
        length, start = data[at + 1], at + 2
        if length >= 0x80:
            if start == size:
                return
            length, start = (length & 0x7F) | data[start] << 7, start + 1
        if start + length > size:
            return
        yield data[at], start, start + length
        at = start + length


def main(load: Load) -> Felt:
    clients = [_connected(load, Path(folder)) for folder in load.vehicles]
    selector = selectors.DefaultSelector()
    for client in clients:
        client.wire.setblocking(False)
        selector.register(client.wire, selectors.EVENT_READ, client)
    before_s, began_ns = cpu_s(load.peer_pid), time.monotonic_ns()
    _run(selector, clients, load)
    seconds = (time.monotonic_ns() - began_ns) / 1e9
    return _felt(load, clients, seconds, cpu_s(load.peer_pid) - before_s)


def _run(selector: selectors.BaseSelector, clients: list[_Client], load: Load) -> None:
    deadline_ns = time.monotonic_ns() + int(TIMEOUT_S * 1e9)
    busy = set(clients)
    for client in clients:
        _serve(selector, client, selectors.EVENT_WRITE)
    while busy:
        for key, events in selector.select(1.0):
            _serve(selector, key.data, events)
            if key.data.is_done(load.receipts):
                busy.discard(key.data)
        if time.monotonic_ns() > deadline_ns:
            raise LoadFailed(f"not done within {TIMEOUT_S:g} s")


def _serve(selector: selectors.BaseSelector, client: _Client, events: int) -> None:
    if events & selectors.EVENT_READ:
        client.read()
    client.write()
    interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.wants_to_write() else 0)
    if selector.get_key(client.wire).events != interest:
        selector.modify(client.wire, interest, client)


def _connected(load: Load, folder: Path) -> _Client:
    paired, context = vehicle_in(folder)
    plain = socket.create_connection((paired.host, load.port), CONNECT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire = context.wrap_socket(plain, server_hostname=paired.host)
    window = min(load.window, _greet(wire, paired))
    if load.receipts:
        wire.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(down_topic(paired.vehicle, "receipt"))]).write())
        _answer(wire, mqtt5.SubAckPacket)
    blocks = make_blocks(load.kind, load.messages, load.first_seq)
    topic = up_topic(paired.vehicle, LANE)
    packets = [_publish(topic, block, 1 + number % _IDS) for number, block in enumerate(blocks)]
    return _Client(wire, packets, window, load.kind.records)


def _greet(wire: ssl.SSLSocket, paired: Paired) -> int:
    """The peer's receive maximum."""
    wire.send(mqtt5.ConnectPacket(paired.vehicle, clean_start=True, keep_alive=120).write())
    answer = _answer(wire, mqtt5.ConnAckPacket)
    if answer.reason_code is not mqtt5.ConnAckReasonCode.SUCCESS:
        raise LoadFailed(f"turned away: {answer.reason_str}")
    return answer.receive_max


def _answer(wire: ssl.SSLSocket, kind: type[T]) -> T:
    data = b""
    while True:
        data += wire.recv(4096)
        try:
            answer, _ = mqtt5.read(memoryview(data))
        except IndexError:
            continue
        if not isinstance(answer, kind):
            raise LoadFailed(f"the peer said {answer}")
        return answer


def _publish(topic: str, block: bytes, packet_id: int) -> bytes:
    return mqtt5.PublishPacket(topic, block, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id).write()


def _felt(load: Load, clients: list[_Client], seconds: float, peer_cpu_s: float) -> Felt:
    acked = [told - sent for client in clients for told, sent in zip(client.acked_ns, client.sent_ns, strict=True)]
    receipted = [took for client in clients for took in client.receipted_ns]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Felt(
        len(acked), seconds, peer_cpu_s, usage.ru_utime + usage.ru_stime, clients[0]._window,
        _percentiles(acked), _percentiles(receipted),
    )  # fmt: skip


def _percentiles(took_ns: list[int]) -> tuple[float, float]:
    if not took_ns:
        return 0.0, 0.0
    took_ns = sorted(took_ns)
    return took_ns[len(took_ns) // 2] / 1e6, took_ns[len(took_ns) * 99 // 100] / 1e6


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(main(msgspec.json.decode(sys.stdin.buffer.read(), type=Load))))
