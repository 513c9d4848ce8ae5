"""The agent's clock: boot time from where the drive's time comes from, wall time as corrected by whom we trust."""

from __future__ import annotations

from ecu.clock import Clock


class DriveClock:
    """In lockstep the drive's time is granted, while certificates and people still live in the wall's."""

    def __init__(self, drive: Clock, wall: Clock) -> None:
        self._drive = drive
        self._wall = wall

    def boot_ns(self) -> int:
        return self._drive.boot_ns()

    def wall_ns(self) -> int:
        return self._wall.wall_ns()

    async def sleep_until(self, boot_ns: int) -> None:
        await self._drive.sleep_until(boot_ns)
