"""The demo over Azure IoT Hub: doubles of the hub and of Event Grid, wired as docs/clouds.md wires the real ones."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from agent.azure import demand_sdk
from ecu.clock import SystemClock
from simulator.clouds.azure import Azure, running_azure
from simulator.clouds.hub import PORT, some_address
from simulator.demo.settings import Sections

REGISTRATION: Final = "azure.json"


class AzureCloud:
    """Between `start` and `stop` the cloud is there.

    Vehicles go to `door`, where somebody must hand them on to `target`: there a network can fail.
    """

    def __init__(self, folder: Path, rng: Random) -> None:
        self.door = (some_address(rng), PORT)
        self._folder = folder
        self._rng = rng
        self._exits = contextlib.AsyncExitStack()
        self._azure: Azure | None = None

    async def start(self) -> None:
        """Raises UsageFault where the SDK isn't installed that vehicles need."""
        demand_sdk()
        cloud = running_azure(self._folder, SystemClock(), self._rng, behind=self.door[0])
        self._azure = await self._exits.enter_async_context(cloud)

    async def stop(self) -> None:
        await self._exits.aclose()

    @property
    def target(self) -> tuple[str, int]:
        return self._running.hub.address, PORT

    @property
    def receiver_sections(self) -> Sections:
        """What its receiver must know of it."""
        return {"receiver.hub": self._running.receiver_section}

    @property
    def link_section(self) -> dict[str, Any]:
        """A vehicle's `[link]`."""
        return {"kind": "azure"}

    async def join(self, host: str, https_port: int, authority_pem: str) -> None:
        """The receiver is up: its vehicles may register, and what they send is pushed to it."""
        await self._running.join(host, https_port, authority_pem)

    def registration(self, vehicle: str) -> Path:
        """The file that `outrider pair` takes on a vehicle that is paired with the receiver."""
        file = self._folder / f"{vehicle}.{REGISTRATION}"
        file.write_bytes(msgspec.json.encode(self._running.registration_file(vehicle)))
        return file

    @property
    def _running(self) -> Azure:
        assert self._azure is not None, "not started"
        return self._azure
