"""Bootloaders count every start of a system until somebody says that it is good: what was kept, or delivered, is called
so at each start, also where no updates are tried (before pairing, in rescue mode). A vehicle must not lose the system
that it has because nobody had anything newer.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

import structlog

from agent.folders import UPDATES_FOLDER
from ecu.clock import SECOND_NS, Clock
from ecu.disk import state_folder
from ecu.errors import UsageFault
from ota.errors import OtaError
from ota.kinds import Kind
from ota.slots import Slots
from ota.system.placed import Placements
from ota.system.port import Marking, SystemInstaller
from ota.system.reconcile import known_of, reconcile

AGAIN_AFTER_NS: Final = 10 * SECOND_NS

log = structlog.get_logger()


def open_installer(name: str) -> SystemInstaller | None:
    """By its name in [updates] system; None for "". Raises UsageFault where it can't be asked for want of a library."""
    if not name:
        return None
    if importlib.util.find_spec("dbus_fast") is None:
        raise UsageFault('[updates] system = "rauc" needs dbus-fast. Run: pip install "outrider[rauc]".')
    from agent.rauc import Rauc  # a vehicle without RAUC needs no D-Bus

    return Rauc()


class Standing:
    """What runs, where it was good before. Made before anything else opens what updates keep on flash."""

    def __init__(self, installer: SystemInstaller, state: Path, clock: Clock, boot_id: str) -> None:
        """Raises DiskError."""
        disk = state_folder(state / UPDATES_FOLDER)
        self._known = known_of(Slots(disk, Kind.SYSTEM).record, Placements(disk).notes)
        self._installer = installer
        self._clock = clock
        self._boot_id = boot_id

    async def call_good(self) -> None:
        """Asks for as long as nobody answers. Whatever else is found is left for who tries systems."""
        while True:
            try:
                marks = reconcile(self._known, await self._installer.read(), self._boot_id).marks
                for marking, slot in marks:
                    if marking is Marking.GOOD:
                        await self._installer.mark(marking, slot)
                return
            except OtaError as trouble:
                log.warning("system_not_called_good", reason=str(trouble))
                await self._clock.sleep_until(self._clock.boot_ns() + AGAIN_AFTER_NS)


def open_standing(name: str, state: Path, clock: Clock, boot_id: str) -> Standing | None:
    """None where systems aren't ours to look after. Raises UsageFault, DiskError."""
    installer = open_installer(name)
    return Standing(installer, state, clock, boot_id) if installer is not None else None
