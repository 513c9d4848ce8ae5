"""Links through a cloud's own SDK, each to a peer on this machine that takes blocks and stores nothing.

What is measured is what the SDK can do: the cloud's own quotas (100 publishes a second at AWS IoT Core) are lifted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Final

from agent.azure import proving
from agent.pairing import KEYS_FOLDER
from ecu.clock import SystemClock
from ecu.disk import RealDisk, state_folder
from ecu.keys import FileKeyStore
from receiver.pki import CA_FILE, Authority
from simulator.clouds.aws import SERVICES, SERVICES_RULES, running_aws
from simulator.clouds.awsprovisioning import Provisioning
from simulator.clouds.hub import running_hub
from simulator.clouds.mosquitto import HOST, RECEIVER, Mosquitto, running_mosquitto
from telemetry.links.aws import AwsLink
from telemetry.links.azure import HubLink
from telemetry.links.link import Acks, Link
from telemetry.links.pahoclient import PahoConnection, TlsDialer

VEHICLE: Final = "bench-001"
TIMEOUT_S: Final = 60.0


@contextlib.asynccontextmanager
async def aws(folder: Path, in_flight: int) -> AsyncIterator[Link]:
    """awsiotsdk to mosquitto."""
    clock, authority = SystemClock(), _authority(folder)
    keys = _certified(folder, authority)
    server = authority.server_file((HOST,))
    rules = {SERVICES: SERVICES_RULES}
    async with running_mosquitto(folder / "broker", authority.pem.encode(), server, rules) as broker:
        provisioning = Provisioning(RealDisk(folder / "authority").read(CA_FILE), frozenset())
        context = authority.client_context(SERVICES, authority.pem)
        async with running_aws(HOST, broker.port, context, provisioning, clock), _somebody_behind(broker, authority):
            link = AwsLink(
                HOST, broker.port, VEHICLE, keys, clock, ca_pem=authority.pem, timeout_s=TIMEOUT_S,
                in_flight=in_flight, acks=Acks.ACCEPTED, paced=False,
            )  # fmt: skip
            async with _connected(link):
                yield link


@contextlib.asynccontextmanager
async def azure(folder: Path, in_flight: int) -> AsyncIterator[Link]:
    """azure-iot-device to a double of the hub, which takes its part of this process's CPU."""
    clock, authority = SystemClock(), _authority(folder)
    keys = _certified(folder, authority)
    async with running_hub(folder / "hub", clock, Random()) as hub:
        hub.trust(authority.pem)
        hub.enrol(VEHICLE)
        link = HubLink(
            hub.host, VEHICLE, lambda: proving(keys, hub.ca_pem), clock, timeout_s=TIMEOUT_S, in_flight=in_flight,
            acks=Acks.ACCEPTED,
        )  # fmt: skip
        async with _connected(link):
            yield link


@contextlib.asynccontextmanager
async def _somebody_behind(broker: Mosquitto, authority: Authority) -> AsyncIterator[None]:
    """Without a subscriber the broker says that it drops what it takes."""
    context = authority.client_context(RECEIVER, authority.pem)
    listener = PahoConnection(RECEIVER, TlsDialer(context, TIMEOUT_S, lambda wire: None), 16, heard := _Heard())
    await asyncio.to_thread(listener.open, HOST, broker.port, 30)
    try:
        await heard.greeted.wait()
        listener.subscribe("outrider/v1/+/up/#")
        await heard.listens.wait()
        yield
    finally:
        await asyncio.to_thread(listener.end)


class _Heard:
    """Of a listener to which nothing matters but that it listens (pahoclient.Events)."""

    def __init__(self) -> None:
        self.greeted, self.listens = asyncio.Event(), asyncio.Event()

    def connected(self, *_: object) -> None:
        self.greeted.set()

    def subscribed(self, *_: object) -> None:
        self.listens.set()

    def acknowledged(self, *_: object) -> None: ...

    def arrived(self, *_: object) -> None: ...

    def lost(self, *_: object) -> None: ...


@contextlib.asynccontextmanager
async def _connected(link: Link) -> AsyncIterator[None]:
    await link.connect()
    try:
        yield
    finally:
        await link.close()


def _authority(folder: Path) -> Authority:
    return Authority(state_folder(folder / "authority"), SystemClock(), 1)


def _certified(folder: Path, authority: Authority) -> FileKeyStore:
    keys = FileKeyStore.open(folder / KEYS_FOLDER)
    pending = keys.begin_identity()
    keys.install(pending, authority.issue(pending.csr(VEHICLE), VEHICLE).pem)
    return keys
