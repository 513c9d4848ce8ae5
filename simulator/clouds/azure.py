"""Azure on this machine: a hub with its provisioning service, Event Grid, and the service API, wired as docs/clouds.md
wires the real ones."""

from __future__ import annotations

import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from ecu.clock import Clock
from simulator.clouds import hubservice
from simulator.clouds.eventgrid import EventGrid, Subscriber
from simulator.clouds.hub import HubDouble, running_hub
from simulator.clouds.hubservice import POLICY, HubService

_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Azure:
    """The parts, and what its operator writes down: secrets in files below `folder`."""

    hub: HubDouble
    grid: EventGrid
    service: HubService
    service_port: int
    code: str
    folder: Path

    @property
    def receiver_section(self) -> dict[str, Any]:
        """`[receiver.hub]`."""
        return {
            "host": self.hub.host,
            "port": self.service_port,
            "policy": POLICY,
            "key_file": str(self.folder / "service.key"),
            "push_code_file": str(self.folder / "push.code"),
            "ca_file": str(self.folder / "hub-ca.pem"),
        }

    async def join(self, host: str, https_port: int, receiver_ca: str) -> None:
        """A receiver's authority becomes an enrolment group, and the receiver the subscriber of all telemetry."""
        self.hub.trust(receiver_ca)
        context = ssl.create_default_context(cadata=receiver_ca)
        await self.grid.subscribe(Subscriber(host, https_port, f"/v1/hub/events?code={self.code}", context))

    def registration_file(self, vehicle: str) -> dict[str, str]:
        """What `outrider pair` takes on a vehicle."""
        return {
            "format": "outrider-azure-1",
            "dps": self.hub.host,
            "scope": self.hub.scope,
            "registration": vehicle,
            "ca": self.hub.ca_pem,
        }


@contextlib.asynccontextmanager
async def running_azure(folder: Path, clock: Clock, rng: Random, *, behind: str = "") -> AsyncIterator[Azure]:
    async with running_hub(folder, clock, rng, behind=behind) as hub:
        key, code = base64.b64encode(rng.randbytes(_KEY_BYTES)).decode(), rng.randbytes(_KEY_BYTES).hex()
        for name, text in (("service.key", key), ("push.code", code), ("hub-ca.pem", hub.ca_pem)):
            (folder / name).write_text(text)
        service, grid = HubService(hub, key, clock), EventGrid()
        hub.on_telemetry = grid.take
        async with hubservice.serving(service, hub) as port:
            try:
                yield Azure(hub, grid, service, port, code, folder)
            finally:
                await grid.close()
