"""The link contract's world behind IoT Hub: a real receiver, reached through a double of the hub."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import msgspec

from agent.azure import proving
from ecu.clock import SteppingClock, SystemClock
from receiver.service import Receiver
from simulator.clouds.azure import Azure, running_azure
from telemetry.links.azure import HubLink
from tests.contracts.worlds import MqttWorld
from tests.receiver.fleet import VEHICLE, a_receiver


class AzureWorld(MqttWorld):
    def __init__(self, azure: Azure, receiver: Receiver, folder: Path, clock: SteppingClock | None) -> None:
        super().__init__(receiver, folder, clock)
        self.azure = azure

    async def link(self, vehicle: str = VEHICLE, **settings: object) -> HubLink:
        paired = await self.vehicle(vehicle)
        self.azure.hub.enrol(vehicle)
        given: dict[str, object] = {
            "host": self.azure.hub.host,
            "device": vehicle,
            "context": lambda: proving(paired.keys, self.azure.hub.ca_pem),
            "clock": paired.clock,
        }
        return HubLink(**(given | settings))  # type: ignore[arg-type]

    async def stored(self, vehicle: str = VEHICLE) -> list[bytes]:
        await self.azure.grid.settled()
        return await super().stored(vehicle)

    async def last_report(self, vehicle: str = VEHICLE) -> bytes | None:
        reported = self.azure.hub.devices[vehicle].reported.get("outrider")
        return None if reported is None else msgspec.json.encode(reported)

    async def revoke(self, vehicle: str) -> None:
        """As docs/clouds.md has the operator do it: at the receiver, and at the hub."""
        await super().revoke(vehicle)
        self.azure.hub.disable(vehicle)

    def hint(self, vehicle: str, kind: str) -> None:
        self.azure.hub.desire(vehicle, {"outrider": {"hint": kind}})

    def sever(self, vehicle: str) -> None:
        self.azure.hub.cut(vehicle)


@contextlib.asynccontextmanager
async def an_azure_world(
    folder: Path, clock: SteppingClock | None = None, **settings: object
) -> AsyncIterator[AzureWorld]:
    async with running_azure(folder / "azure", SystemClock(), Random()) as azure:
        settings["hub"] = azure.receiver_section
        async with a_receiver(folder, clock, **settings) as receiver:
            await azure.join("localhost", receiver.address.https_port, receiver.authority.pem)
            yield AzureWorld(azure, receiver, folder, clock)
