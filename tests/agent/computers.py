"""A computer whose system can be replaced, and a vehicle that is switched on, driven and parked with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from agent.launched import Launched
from agent.learning.gates import PowerWanted
from agent.updates import Booted, UpdateSide
from ecu.clock import SteppingClock
from ecu.disk import state_folder
from ota.slots import Slot
from ota.system.memory import MemorySystem
from ota.system.placed import Placements
from ota.system.port import SystemInstaller
from ota.trust import Vehicle
from ota.updates import Notice
from tests.agent.road import Nobody
from tests.agent.test_started import RULES, Car, Parking
from tests.ota.fleet import CAR, HARDWARE, Fleet

OLD, NEW = "rootfs.0", "rootfs.1"


class Computer:
    """`folder` is what both systems share: what updates keep on flash."""

    def __init__(self, folder: Path, system: MemorySystem) -> None:
        self.folder = folder
        self.system = system
        self.parking = Parking()
        self.can_reboot = True
        self.has_installer = True
        self.reboots = 0
        self.boots = 0
        self.services: dict[str, str] = {}

    async def states(self) -> dict[str, str]:
        return self.services

    async def reboot(self) -> None:
        self.reboots += 1

    def power_on(self) -> str:
        self.boots += 1
        return self.system.power_on()

    def go_on(self) -> None:
        assert self.system.hold is not None
        self.system.hold.set()

    def hold(self) -> None:
        self.system.hold = asyncio.Event()
        self.system.writing.clear()


@asynccontextmanager
async def a_drive(fleet: Fleet, computer: Computer, restarts: bool = True) -> AsyncIterator[Car]:
    """From ignition on to ignition off; or the agent alone begins again in a computer that is on (not `restarts`)."""
    if restarts:
        computer.power_on()
    async with a_trip(fleet, computer, computer.system, f"boot {computer.boots}") as car:
        yield car


@asynccontextmanager
async def a_trip(fleet: Fleet, computer: Computer, installer: SystemInstaller, boot_id: str) -> AsyncIterator[Car]:
    clock, notices, parking = SteppingClock(wall_ns=fleet.clock.wall_ns()), list[Notice](), computer.parking
    around = Launched(
        Slot.FACTORY, 120.0, PowerWanted.NOT_BATTERY, parking.world, lambda: parking.well, lambda: parking.network,
        parking.restart,
    )  # fmt: skip
    placements = Placements(state_folder(computer.folder))
    reboot = computer.reboot if computer.can_reboot else None
    booted = Booted(installer, placements, around, boot_id, reboot, computer)
    side = UpdateSide(
        computer.folder, fleet.roots, Vehicle(CAR, HARDWARE), fleet.source(), {}, Nobody(), RULES, clock, Random(1),
        notices.append, others=[booted] if computer.has_installer else [],
    )  # fmt: skip
    work = asyncio.create_task(side.run(None))
    try:
        yield Car(computer.folder, clock, side, notices)
    finally:
        work.cancel()
        await asyncio.wait({work})
        if not work.cancelled():
            work.result()
