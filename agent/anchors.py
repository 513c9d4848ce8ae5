"""What the vehicle tells of its clock, so that its receiver can place what was captured while it was wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock
from telemetry.records import ClockAnchor, Lane, TimeSource

EVERY_NS: Final = 24 * 3600 * SECOND_NS
LOOK_NS: Final = 60 * SECOND_NS
STEP_NS: Final = SECOND_NS
"""A clock that is so far from what was told last was set meanwhile, or went its own way for hours."""


class ClockAnchors:
    """Of one boot and one opening of the spool. `clock` gives the boot time that records are stamped with, `tell` is
    given each anchor: at the start, at each correction, at the first proof by certificates, when the clock was set by
    somebody else, and once a day."""

    def __init__(
        self, clock: Clock, boot: str, epochs: Mapping[Lane, bytes], tell: Callable[[ClockAnchor], None]
    ) -> None:
        self._clock = clock
        self._boot = boot
        self._epochs = {lane.name: epoch.hex() for lane, epoch in epochs.items()}
        self._tell = tell
        self._is_proven = False
        self._told_offset_ns = 0

    async def run(self, holds: Callable[[], bool] = lambda: False) -> None:
        """Until cancelled. `holds` says whether certificates hold by the clock as it is now."""
        while True:
            self.told(TimeSource.CERTIFICATES if self._is_proven else TimeSource.UNPROVEN)
            due_ns = self._clock.boot_ns() + EVERY_NS
            while self._clock.boot_ns() < due_ns and not self._is_set():
                await self._clock.sleep_until(min(due_ns, self._clock.boot_ns() + LOOK_NS))
            # Who has set it may have set it wrong: then the next connection proves it, or nobody does.
            self._is_proven = self._is_proven and (not self._is_set() or holds())

    def corrected(self, within_ns: int) -> None:
        """The receiver's signed time is held now."""
        self.told(TimeSource.RECEIVER, within_ns)

    def proven(self) -> None:
        """A connection stands, and its certificates hold by our clock."""
        if not self._is_proven:
            self._is_proven = True
            self.told(TimeSource.CERTIFICATES)

    def unproven(self) -> None:
        """The clock was set by a time that nobody signed."""
        self._is_proven = False
        self.told(TimeSource.UNPROVEN)

    def told(self, source: TimeSource, within_ns: int = 0) -> None:
        within_ms = -(-within_ns // MILLISECOND_NS)
        boot_ns, wall_ns = self._clock.boot_ns(), self._clock.wall_ns()
        self._told_offset_ns = wall_ns - boot_ns
        self._tell(ClockAnchor(self._boot, boot_ns, wall_ns, source.value, within_ms, self._epochs))

    def _is_set(self) -> bool:
        return abs(self._clock.wall_ns() - self._clock.boot_ns() - self._told_offset_ns) > STEP_NS
