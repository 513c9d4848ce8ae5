"""The link contract's world behind a broker: a real receiver, reached through mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from cryptography import x509

from ecu.clock import SteppingClock, SystemClock
from ecu.disk import RealDisk
from receiver.pki import CA_FILE, Authority
from receiver.service import Receiver
from simulator.clouds.mosquitto import HOST, RECEIVER, Mosquitto, running_mosquitto
from telemetry.links.link import Link
from telemetry.links.mqtt import MqttLink
from telemetry.records import Lane
from tests.contracts.worlds import MqttWorld
from tests.receiver.fleet import VEHICLE, a_receiver, make_block


class BrokerWorld(MqttWorld):
    def __init__(self, broker: Mosquitto, receiver: Receiver, folder: Path, clock: SteppingClock | None) -> None:
        super().__init__(receiver, folder, clock)
        self.broker = broker

    async def link(self, vehicle: str = VEHICLE, **settings: object) -> Link:
        paired = await self.vehicle(vehicle)
        given: dict[str, object] = {
            "host": HOST,
            "port": self.broker.port,
            "vehicle": vehicle,
            "context": paired.context(),
            "clock": paired.clock,
            "broker": True,
        }
        return MqttLink(**(given | settings))  # type: ignore[arg-type]

    async def last_report(self, vehicle: str = VEHICLE) -> bytes | None:
        """The broker's word for a report isn't the receiver's: what comes later tells that it was heard."""
        link = await self.link("a-straggler")
        await link.connect()
        await link.publish(Lane.P0, make_block(lane=Lane.P0))
        await link.close()
        return await super().last_report(vehicle)

    async def revoke(self, vehicle: str) -> None:
        """As docs/clouds.md has the operator do it: at the receiver, and at the broker."""
        await super().revoke(vehicle)
        certificate = (await self.vehicle(vehicle)).keys.certificate()
        assert certificate is not None
        self.broker.revoke(x509.load_pem_x509_certificate(certificate).serial_number)
        self.sever(vehicle)

    def sever(self, vehicle: str) -> None:
        self.broker.cut(vehicle, self.outsider())

    def outsider(self) -> ssl.SSLContext:
        """Proves nobody in particular to the broker."""
        return self.receiver.authority.client_context("outsider", self.receiver.authority.pem)


@contextlib.asynccontextmanager
async def a_broker(folder: Path, rules: Mapping[str, str] | None = None) -> AsyncIterator[Mosquitto]:
    """Of the authority that the receiver in `folder` will have."""
    disk = RealDisk(folder / "receiver")
    disk.make_folder("")
    authority = await asyncio.to_thread(Authority, disk, SystemClock(), 1)
    server_pem = authority.server_file((HOST, "127.0.0.1"))
    async with running_mosquitto(folder / "broker", disk.read(CA_FILE), server_pem, rules) as broker:
        yield broker


@contextlib.asynccontextmanager
async def a_broker_world(
    folder: Path, clock: SteppingClock | None = None, **settings: object
) -> AsyncIterator[BrokerWorld]:
    async with a_broker(folder) as broker:
        settings |= {"broker": broker.url, "broker_client": RECEIVER}
        async with a_receiver(folder, clock, **settings) as receiver:
            assert receiver.behind is not None
            await receiver.behind.ready.wait()
            yield BrokerWorld(broker, receiver, folder, clock)
