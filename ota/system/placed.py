"""What was installed in which of the system's slots, and in which boot of the computer the bootloader was told to start
it: in `system/placed.0` and `.1`, a TwinRecord of JSON.

A slot is noted before it is written, without what lies there; and once more when its writing is done. The bootloader is
told after a trial is armed, and that it was told is noted after it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ecu.disk import Disk, DiskFault
from ecu.twin import TwinLost, TwinRecord
from ota.kinds import Kind
from ota.system.port import Reading

_NAME: Final = f"{Kind.SYSTEM}/placed"
_CAPACITY: Final = 16 << 10


class Placed(msgspec.Struct, frozen=True):
    """The release with that manifest's digest ("" for what the vehicle was delivered with) in one slot. `images` are
    RAUC's SHA-256 by slot name; None while it is being written."""

    digest: str
    slot: str
    images: dict[str, str] | None


class Notes(msgspec.Struct, frozen=True):
    """The newest of each slot. `told` is the boot of the computer in which the bootloader was told to start what is
    armed; "" while it wasn't."""

    v: int = 1
    placed: tuple[Placed, ...] = ()
    told: str = ""

    def of_slot(self, slot: str) -> Placed | None:
        return next((placed for placed in self.placed if placed.slot == slot), None)

    def of_release(self, digest: str) -> Placed | None:
        """The newest: a release may have been written into both slots."""
        return next((placed for placed in reversed(self.placed) if placed.digest == digest), None)

    def with_placed(self, placed: Placed) -> Notes:
        others = [other for other in self.placed if other.slot != placed.slot]
        return msgspec.structs.replace(self, placed=(*others, placed))


class Placements:
    """Durable when each returns. Raises DiskError. What is lost reads as nothing: what runs is nobody's then."""

    def __init__(self, disk: Disk) -> None:
        disk.make_folder(Kind.SYSTEM)
        self._twin = TwinRecord(disk, _NAME, _CAPACITY)
        self._lost = False
        self.notes = self._read()

    def begin(self, trial: str, good: str, reading: Reading) -> None:
        """The spare slot is about to be written, while the one that runs stays as it is: what the vehicle was delivered
        with, where nothing was ever written before."""
        booted, spare = reading.booted, reading.spare
        assert booted is not None
        assert spare is not None
        notes = msgspec.structs.replace(self.notes, told="")
        if not good and not notes.placed:
            notes = notes.with_placed(Placed("", booted.name, dict(reading.images(booted.name))))
        self._write(notes.with_placed(Placed(trial, spare.name, None)))

    def undo(self, before: Notes) -> None:
        """Nothing was written: the slot holds what it did."""
        self._write(before)

    def finish(self, trial: str, slot: str, images: Mapping[str, str]) -> None:
        self._write(self.notes.with_placed(Placed(trial, slot, dict(images))))

    def tell(self, boot_id: str) -> None:
        self._write(msgspec.structs.replace(self.notes, told=boot_id))

    def _read(self) -> Notes:
        try:
            payload = self._twin.read_both()
            return msgspec.json.decode(payload, type=Notes) if payload is not None else Notes()
        except (TwinLost, DiskFault, msgspec.DecodeError, UnicodeDecodeError):
            self._lost = True
            return Notes()

    def _write(self, notes: Notes) -> None:
        payload = msgspec.json.encode(notes)
        if self._lost:
            self._twin.start_anew(payload)
        else:
            self._twin.write_both(payload)
        self._lost, self.notes = False, notes
