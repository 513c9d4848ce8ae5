"""The agent's clock: boot time from where the drive's time comes from, wall time as corrected by whom we trust."""

from __future__ import annotations

from ecu.clock import Clock
from telemetry.privacy.stage import rounded


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


class RoundedWall:
    """Wall time rounded down to a multiple of `round_ns`, for stamps that may tell no more ([privacy] time_round_ms);
    0 leaves it. Boot time, which deadlines need, is exact."""

    def __init__(self, clock: Clock, round_ns: int) -> None:
        self._clock = clock
        self._round_ns = round_ns
        self.boot_ns, self.sleep_until = clock.boot_ns, clock.sleep_until

    def wall_ns(self) -> int:
        return rounded(self._clock.wall_ns(), self._round_ns)
