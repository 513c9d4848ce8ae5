"""Who tries systems on this vehicle: RAUC, where the configuration says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from agent.config import UpdatesSection
from agent.folders import UPDATES_FOLDER
from agent.rebooting import RebootCommand
from agent.updates import Booted
from agent.updates.proof import Surroundings
from ecu.disk import state_folder
from ecu.errors import UsageFault
from ota.system.placed import Placements


def open_systems(settings: UpdatesSection, state: Path, around: Surroundings, boot_id: str) -> Booted | None:
    """None where systems aren't ours to replace. Raises UsageFault where RAUC can't be asked for want of a library."""
    if not settings.system:
        return None
    if importlib.util.find_spec("dbus_fast") is None:
        raise UsageFault('[updates] system = "rauc" needs dbus-fast. Run: pip install "outrider[rauc]".')
    from agent.rauc import Rauc  # a vehicle without RAUC needs no D-Bus

    reboot = RebootCommand(settings.reboot) if settings.reboot else None
    return Booted(Rauc(), Placements(state_folder(state / UPDATES_FOLDER)), around, boot_id, reboot)
