"""What the vehicle tells of its clock, so that its receiver can place what was captured while it was wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock
from telemetry.records import ClockAnchor, Lane, TimeSource

EVERY_NS: Final = 24 * 3600 * SECOND_NS


class ClockAnchors:
    """Of one boot and one opening of the spool. `clock` gives the boot time that records are stamped with, `tell` is
    given each anchor: at the start, at each correction, at the first proof by certificates, and once a day."""

    def __init__(
        self, clock: Clock, boot: str, epochs: Mapping[Lane, bytes], tell: Callable[[ClockAnchor], None]
    ) -> None:
        self._clock = clock
        self._boot = boot
        self._epochs = {lane.name: epoch.hex() for lane, epoch in epochs.items()}
        self._tell = tell
        self._is_proven = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.told(TimeSource.CERTIFICATES if self._is_proven else TimeSource.UNPROVEN)
            await self._clock.sleep_until(self._clock.boot_ns() + EVERY_NS)

    def corrected(self, within_ns: int) -> None:
        """The receiver's signed time is held now."""
        self.told(TimeSource.RECEIVER, within_ns)

    def proven(self) -> None:
        """A connection stands, and its certificates hold by our clock."""
        if not self._is_proven:
            self._is_proven = True
            self.told(TimeSource.CERTIFICATES)

    def told(self, source: TimeSource, within_ns: int = 0) -> None:
        within_ms = -(-within_ns // MILLISECOND_NS)
        boot_ns, wall_ns = self._clock.boot_ns(), self._clock.wall_ns()
        self._tell(ClockAnchor(self._boot, boot_ns, wall_ns, source.value, within_ms, self._epochs))
