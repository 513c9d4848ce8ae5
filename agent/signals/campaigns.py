"""Which campaigns.json is in force: the one that was signed last, of those that this vehicle took.

A release's folder is written over by the release after the next; what was taken is kept beside, so that one that is
refused leaves its predecessor in force, over restarts too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from agent.signals.messages import Admission
from ecu.disk import Disk, DiskError, replace_file
from telemetry.capture.campaigns.campaign import CAMPAIGNS_FILE, MAX_CAMPAIGNS_BYTES

log = structlog.get_logger()

NOTHING: Final = b""


class CampaignShelf:
    """`signed` is the newest release's folder, None before the first; `shipped` the owner's own file, which counts for
    as long as nothing was signed. `disk` is a folder of its own. `fault` is why what was taken couldn't be kept."""

    def __init__(self, disk: Disk, signed: Callable[[], Path | None], shipped: Path | None) -> None:
        self.fault = ""
        self._disk = disk
        self._signed = signed
        self._shipped = shipped
        self._kept = self._read_kept()

    def candidates(self) -> tuple[bytes, ...]:
        """What a process that begins is asked to take, one after the other: the last one that it takes is in force."""
        newest = self._newest()
        return tuple(dict.fromkeys(data for data in (self._kept, newest) if data))

    def newest(self) -> bytes:
        """What is signed now, or shipped; nothing where neither is, or it can't be read."""
        return self._newest() or self._kept

    def settle(self, data: bytes, admission: Admission) -> None:
        """What became of one that was asked for: taken, it is kept."""
        if admission.refused or data == self._kept or self._signed() is None:
            return
        try:
            replace_file(self._disk, CAMPAIGNS_FILE, data)
        except DiskError as error:
            # In force all the same; a start asks for the release again.
            self.fault = str(error)
            return
        self._kept, self.fault = data, ""

    def _newest(self) -> bytes:
        folder = self._signed()
        path = self._shipped if folder is None else folder / CAMPAIGNS_FILE
        return NOTHING if path is None else _read(path)

    def _read_kept(self) -> bytes:
        if not self._disk.exists(CAMPAIGNS_FILE):
            return NOTHING
        try:
            return self._disk.read(CAMPAIGNS_FILE)
        except DiskError as error:
            self.fault = str(error)
            return NOTHING


def _read(path: Path) -> bytes:
    """One byte more than is allowed at most: whoever parses it refuses it by name."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_CAMPAIGNS_BYTES + 1)
    except OSError as error:
        log.error("campaigns_not_read", path=str(path), reason=error.strerror)
        return NOTHING
