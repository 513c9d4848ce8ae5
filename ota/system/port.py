"""What is needed of whoever installs systems and tells the bootloader which one to start: RAUC, in a vehicle.

Which slot runs, and which one the next start takes, only the bootloader knows. It counts the starts of a slot that
nobody has called good yet, and goes back by itself; so the one word that can't be taken back, "good", is for a slot
that runs and has shown that it works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ecu.errors import EnvironmentFault
from ota.errors import OtaError


class InstallerAway(OtaError, EnvironmentFault):
    """The installer can't be asked. Try again later."""


class InstallFailed(OtaError, EnvironmentFault):
    """It began, or couldn't, and what lies in the spare slot now doesn't start. Nothing is wrong with the bundle as
    far as anybody knows: it may be tried again."""


class Marking(StrEnum):
    """What the bootloader can be told of a slot."""

    ACTIVE = "active"  # the next start takes it, and counts
    GOOD = "good"  # its starts needn't be counted any more
    BAD = "bad"  # no start takes it


@dataclass(frozen=True, slots=True)
class SystemSlot:
    """One of RAUC's slots. `bootname` is what the bootloader calls it, "" where it belongs to `parent`, which the
    bootloader starts. `is_bad`: no start takes it; None where the bootloader can't say. `sha256` of what was installed
    there, "" where it isn't known or wasn't finished."""

    name: str
    kind: str = ""
    bootname: str = ""
    parent: str = ""
    runs: bool = False
    is_bad: bool | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """All slots at one instant. `primary` is the slot that the next start takes; None where nobody can say."""

    slots: tuple[SystemSlot, ...]
    primary: str | None = None

    @property
    def booted(self) -> SystemSlot | None:
        """The one that was started; None for a system that runs from somewhere else."""
        return next((slot for slot in self.slots if slot.runs and slot.bootname), None)

    @property
    def spare(self) -> SystemSlot | None:
        """The one that an installation writes; None where there isn't exactly one."""
        booted = self.booted
        if booted is None:
            return None
        spares = [slot for slot in self.slots if slot.bootname and slot.kind == booted.kind and not slot.runs]
        return spares[0] if len(spares) == 1 else None

    def slot(self, name: str) -> SystemSlot | None:
        return next((slot for slot in self.slots if slot.name == name), None)

    def images(self, name: str) -> Mapping[str, str]:
        """SHA-256 of what lies in the slot and in those that belong to it, as far as it is known."""
        group = [slot for slot in self.slots if name in (slot.name, slot.parent)]
        return {slot.name: slot.sha256 for slot in group if slot.sha256}


Percent = Callable[[int, str], None]
"""Told how far an installation is (0 to 100), and what it does just now."""


class SystemInstaller(Protocol):
    """Each may raise InstallerAway. One installation at a time."""

    async def read(self) -> Reading: ...

    async def install(self, bundle: Path, watch: Percent) -> None:
        """Verifies the bundle by the installer's own chain and writes it into the spare slot, durable when it returns.

        Raises TrustError for one that the chain doesn't vouch for, or that is for another computer: then nothing was
        written. Raises InstallFailed. Cancelled, it goes on behind our back; `read` tells what came of it.
        """
        ...

    async def mark(self, marking: Marking, slot: str) -> None:
        """Durable when it returns. Raises InstallFailed where the bootloader can't be told."""
        ...
