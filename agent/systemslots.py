"""Who tries systems on this vehicle, where the configuration says that somebody does."""

from __future__ import annotations

from pathlib import Path

from agent.config import UpdatesSection
from agent.folders import UPDATES_FOLDER
from agent.rebooting import RebootCommand
from agent.systemgood import open_installer
from agent.updates import Booted
from agent.updates.booted import Services
from agent.updates.proof import Surroundings
from ecu.disk import state_folder
from ota.system.placed import Placements


def open_systems(settings: UpdatesSection, state: Path, around: Surroundings, boot_id: str) -> Booted | None:
    """None where systems aren't ours to replace. Raises UsageFault."""
    installer = open_installer(settings.system)
    if installer is None:
        return None
    reboot = RebootCommand(settings.reboot) if settings.reboot else None
    placements = Placements(state_folder(state / UPDATES_FOLDER))
    return Booted(installer, placements, around, boot_id, reboot, _services(settings))


def _services(settings: UpdatesSection) -> Services | None:
    if not settings.services:
        return None
    from agent.systemd import SystemdServices  # as above: only where D-Bus is there

    return SystemdServices(settings.services)
