"""What the receiver's tests share: blocks, a receiver on free ports, and vehicles paired with it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import mqtt5
import msgspec

from agent.pairing import Paired, pair, tls_context
from ecu.clock import Clock, SteppingClock, SystemClock
from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from receiver.config import ReceiverConfig
from receiver.service import Receiver, running
from telemetry.links.mqtt import MqttLink
from telemetry.records import Health, Lane, Purpose, Stored, encode_event
from telemetry.wire import (
    CODEC_RECORDS_ZSTD,
    NO_DICTIONARY,
    BlockHeader,
    inflated_size,
    pack_block,
    pack_body,
    unpack_block,
)

EPOCH = bytes(range(16))
VEHICLE = "veh-001"


def make_block(
    base_seq: int = 0, count: int = 3, lane: Lane = Lane.P1, epoch: bytes = EPOCH, note: str = "a note"
) -> bytes:
    event = msgspec.Raw(encode_event(Health("test", note)))
    body = pack_body([Stored(1000 + n, 0, event) for n in range(base_seq, base_seq + count)])
    header = BlockHeader(lane, Purpose.OPERATION, epoch, base_seq, count, CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body))
    return pack_block(header, body)


def cost_of(block: bytes) -> int:
    """What it takes of its vehicle's share."""
    return len(block) + inflated_size(unpack_block(block)[1])


def todays_clock() -> SteppingClock:
    """Stands still today: OpenSSL looks at the computer's own clock."""
    return SteppingClock(wall_ns=time.time_ns())


async def until(condition: Callable[[], bool]) -> None:
    """For what no event tells of; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A paired vehicle: its identity, and how it connects."""

    paired: Paired
    keys: MemoryKeyStore
    clock: Clock
    disk: RealDisk

    @property
    def name(self) -> str:
        return self.paired.vehicle

    def context(self) -> ssl.SSLContext:
        return tls_context(self.paired, self.keys)

    def link(self, timeout_s: float = 10.0, in_flight: int = 16) -> MqttLink:
        return MqttLink(
            self.paired.host,
            self.paired.mqtt_port,
            self.name,
            self.context(),
            self.clock,
            timeout_s=timeout_s,
            in_flight=in_flight,
        )


def on_free_ports(**settings: object) -> ReceiverConfig:
    return ReceiverConfig.model_validate({"mqtt_port": 0, "https_port": 0, **settings})


@asynccontextmanager
async def a_receiver(folder: Path, clock: Clock | None = None, **settings: object) -> AsyncIterator[Receiver]:
    async with running(on_free_ports(**settings), folder / "receiver", clock) as receiver:
        yield receiver


async def a_vehicle(receiver: Receiver, folder: Path, name: str = VEHICLE, clock: Clock | None = None) -> Vehicle:
    """Enrolled, paired, and with its own state folder."""
    disk = RealDisk(folder / name)
    disk.make_folder("")
    keys, clock = MemoryKeyStore(), clock or SystemClock()
    paired = await asyncio.to_thread(pair, await receiver.operator.enrol(name), keys, disk, clock)
    return Vehicle(paired, keys, clock, disk)


class RawVehicle:
    """Speaks MQTT packet by packet, as no proper client would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._framer = _AnyFramer()

    @classmethod
    async def dial(cls, vehicle: Vehicle) -> RawVehicle:
        """TLS only."""
        host, port = vehicle.paired.host, vehicle.paired.mqtt_port
        return cls(*await asyncio.open_connection(host, port, ssl=vehicle.context()))

    @classmethod
    async def connected(cls, vehicle: Vehicle, keep_alive: int = 60) -> RawVehicle:
        raw = await cls.dial(vehicle)
        raw.send(mqtt5.ConnectPacket("any", clean_start=True, keep_alive=keep_alive))
        answer = await raw.receive()
        assert isinstance(answer, mqtt5.ConnAckPacket)
        assert answer.reason_code is mqtt5.ConnAckReasonCode.SUCCESS
        return raw

    def send(self, packet: mqtt5.Packet | bytes) -> None:
        self.writer.write(packet if isinstance(packet, bytes) else packet.write())

    async def receive(self) -> mqtt5.Packet | None:
        """The next packet; None when the receiver closed."""
        async with asyncio.timeout(10):
            while (packet := self._framer.next()) is None:
                if not (data := await self.reader.read(65536)):
                    return None
                self._framer.extend(data)
        return mqtt5.read(memoryview(packet))[0]

    async def ask(self, packet: mqtt5.Packet | bytes) -> mqtt5.Packet | None:
        self.send(packet)
        return await self.receive()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


class _AnyFramer:
    """Frames what a server sends: any type, short lengths."""

    def __init__(self) -> None:
        self._buffer = b""

    def extend(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        try:
            _, end = mqtt5.read(memoryview(self._buffer)) if self._buffer else (None, 0)
        except IndexError:
            return None
        packet, self._buffer = self._buffer[:end], self._buffer[end:]
        return packet or None
