"""A system installer in memory, with the bootloader under it: two slots, starts that are counted, and failures on
command. What RAUC and a bootloader do is held to the same contract.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ota.errors import Attack, OtaError, TrustError
from ota.system.port import InstallFailed, Marking, Percent, Reading, SystemSlot

STARTS: Final = 3
"""How often the bootloader starts a slot that nobody calls good."""
CHAIN: Final = "ours"
COMPATIBLE: Final = "car"
_SLOTS: Final = ("rootfs.0", "rootfs.1")


class NothingStarts(Exception):
    """Both slots are used up: the vehicle is a brick."""


def memory_bundle(payload: bytes, chain: str = CHAIN, compatible: str = COMPATIBLE) -> bytes:
    """What this installer takes: one line of who vouches for which bytes, and the bytes."""
    return f"{chain} {compatible} {hashlib.sha256(payload).hexdigest()}\n".encode() + payload


@dataclass(frozen=True, slots=True)
class _Flash:
    """What a power cut leaves of one slot. `starts` are those left to it."""

    starts: int = STARTS
    sha256: str = ""


class MemorySystem:
    """`failures` are raised by the next calls of an act ("read", "install", "mark"), one each. With `hold` set an
    installation stops in the middle of its writing until the event is set. `activates` is RAUC's activate-installed."""

    def __init__(self, activates: bool = False) -> None:
        self.failures: dict[str, list[OtaError]] = {"read": [], "install": [], "mark": []}
        self.hold: asyncio.Event | None = None
        self.writing = asyncio.Event()
        self.told: list[tuple[Marking, str]] = []
        self.booted = _SLOTS[0]
        self.primary = _SLOTS[0]
        self._activates = activates
        self._flash = {name: _Flash() for name in _SLOTS}
        self._busy = False

    # --- as SystemInstaller -----------------------------------------------------------------------

    async def read(self) -> Reading:
        self._fail("read")
        # None that can't be started is named.
        startable = [name for name in self._order() if self._flash[name].starts > 0]
        return Reading(tuple(self._slot(name) for name in _SLOTS), startable[0] if startable else None)

    async def install(self, bundle: Path, watch: Percent) -> None:
        self._fail("install")
        if self._busy:
            raise InstallFailed("Already processing a different method")
        payload = _verified(bundle.read_bytes())
        self._busy = True
        try:
            await self._write(hashlib.sha256(payload).hexdigest(), watch)
        finally:
            self._busy = False

    async def mark(self, marking: Marking, slot: str) -> None:
        self._fail("mark")
        if slot not in _SLOTS:
            raise InstallFailed(f"Invalid slot name: {slot}")
        self.told.append((marking, slot))
        self._mark(marking, slot)

    # --- on command -------------------------------------------------------------------------------

    def power_on(self) -> str:
        """The bootloader starts a slot, and counts it first. Raises NothingStarts."""
        self._busy = False
        for name in self._order():
            flash = self._flash[name]
            if flash.starts > 0:
                self._flash[name] = replace(flash, starts=flash.starts - 1)
                self.booted = name
                return name
        raise NothingStarts("no slot has starts left")

    def overwrite(self, slot: str, payload: bytes) -> None:
        """Somebody installs something by hand."""
        self._flash[slot] = _Flash(STARTS, hashlib.sha256(payload).hexdigest())

    def copy(self) -> MemorySystem:
        """What a power cut just now leaves."""
        other = MemorySystem(self._activates)
        other.booted, other.primary, other._flash = self.booted, self.primary, dict(self._flash)
        return other

    # --- inside -----------------------------------------------------------------------------------

    async def _write(self, sha256: str, watch: Percent) -> None:
        (spare,) = (name for name in _SLOTS if name != self.booted)
        self._mark(Marking.BAD, spare)
        self._flash[spare] = _Flash(0)
        watch(50, f"Copying image to {spare}")
        self.writing.set()
        if self.hold is not None:
            await self.hold.wait()
        self._flash[spare] = _Flash(0, sha256)
        if self._activates:
            self._mark(Marking.ACTIVE, spare)
        watch(100, "Installing done.")

    def _mark(self, marking: Marking, slot: str) -> None:
        self._flash[slot] = replace(self._flash[slot], starts=0 if marking is Marking.BAD else STARTS)
        if marking is Marking.ACTIVE:
            self.primary = slot

    def _order(self) -> Sequence[str]:
        return sorted(_SLOTS, key=lambda name: name != self.primary)

    def _slot(self, name: str) -> SystemSlot:
        flash = self._flash[name]
        return SystemSlot(name, "rootfs", name[-1], "", name == self.booted, flash.starts == 0, flash.sha256)

    def _fail(self, act: str) -> None:
        if self.failures[act]:
            raise self.failures[act].pop(0)


def _verified(data: bytes) -> bytes:
    head, _, payload = data.partition(b"\n")
    parts = head.decode("ascii", "replace").split(" ")
    if len(parts) != 3 or len(parts[2]) != 64:
        raise TrustError(Attack.MALFORMED, "that is no bundle")
    chain, compatible, sha256 = parts
    if chain != CHAIN:
        raise TrustError(Attack.WRONG_SIGNER, f"{chain} signed it, not {CHAIN}")
    if hashlib.sha256(payload).hexdigest() != sha256:
        raise TrustError(Attack.TAMPERED, "its bytes aren't those that were signed")
    if compatible != COMPATIBLE:
        raise TrustError(Attack.WRONG_HARDWARE, f"it is for {compatible}, this is {COMPATIBLE}")
    return payload
