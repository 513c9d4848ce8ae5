"""The demo behind an MQTT 5 broker: mosquitto between vehicle and receiver, wired as docs/clouds.md has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Final

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from receiver.pki import Authority
from simulator.clouds.mosquitto import HOST, Mosquitto, demand_mosquitto, free_port, running_mosquitto
from simulator.demo.settings import Sections

RECEIVER_WITHIN_S: Final = 20.0


class BrokerCloud:
    """Between `start` and `stop` the broker may be there; it runs from the first `join` on, since only then is it known
    whom the receiver has let in."""

    door: tuple[str, int] = ("127.0.0.1", 0)
    rules: Mapping[str, str] = {}

    def __init__(self, folder: Path, rng: Random) -> None:
        self.folder = folder
        self.exits = contextlib.AsyncExitStack()
        self.broker: Mosquitto | None = None
        self.port = 0
        self._joined = 0

    async def start(self) -> None:
        """Raises EnvironmentFault where mosquitto isn't installed."""
        demand_mosquitto()
        self.port = free_port()
        disk = RealDisk(self.folder / "broker-authority")
        disk.make_folder("")
        self.authority = await asyncio.to_thread(Authority, disk, SystemClock(), 1)
        self.ca_file.write_text(self.authority.pem)

    async def stop(self) -> None:
        await self.exits.aclose()

    async def join(self, host: str, https_port: int, authority_pem: str) -> None:
        if self.broker is None:
            await self.run_broker(authority_pem)
        assert self.broker is not None
        self._joined += 1
        async with asyncio.timeout(RECEIVER_WITHIN_S):
            await self.broker.receiver_there(self._joined)

    async def run_broker(self, authority_pem: str) -> None:
        """It lets in whom the receiver certifies, and whom its own authority does."""
        authorities = (authority_pem + self.authority.pem).encode()
        server_pem = self.authority.server_file((HOST,))
        running = running_mosquitto(self.folder / "broker", authorities, server_pem, self.rules, self.port)
        self.broker = await self.exits.enter_async_context(running)

    @property
    def ca_file(self) -> Path:
        """Who signs the broker's own certificate."""
        return self.folder / "broker-ca.pem"

    @property
    def target(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def receiver_sections(self) -> Sections:
        return {"receiver": {"broker": f"mqtts://{HOST}:{self.port}", "broker_ca": str(self.ca_file)}}

    @property
    def link_section(self) -> Mapping[str, Any]:
        return {"kind": "mqtt", "broker": True, "host": HOST, "ca_file": str(self.ca_file)}

    def registration(self, vehicle: str) -> Path | None:
        """Its receiver's certificate is all it needs."""
        return None
