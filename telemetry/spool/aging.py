"""How old what is spooled may get, in spool time: boot time added up over boots, suspend included.

Wall time may be years off and never counts. Time without power counts only where boot time proves it, so nothing
expires early; it may stay longer. A block keeps one number: when it is due, in units after its segment's beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ecu.clock import SECOND_NS, Clock

UNIT_NS: Final = 10 * SECOND_NS
FOR_EVER: Final = 0
_MOST_UNITS: Final = (1 << 24) - 1


def due_code(begun_ns: int, now_ns: int, keep_s: int | None) -> int:
    """Units after `begun_ns` at which what is written now is due, rounded up; FOR_EVER beyond five years, too."""
    if keep_s is None:
        return FOR_EVER
    units = -((begun_ns - now_ns - keep_s * SECOND_NS) // UNIT_NS)
    return max(1, units) if units <= _MOST_UNITS else FOR_EVER


def due_ns(begun_ns: int, code: int) -> int | None:
    """The spool time at which it is due; None: never."""
    return begun_ns + code * UNIT_NS if code else None


@dataclass(frozen=True, slots=True)
class Aged:
    """Spool time as it was written down: that of the spool, and boot time at the same moment."""

    spool_ns: int = 0
    boot_ns: int = 0

    def at_least(self, boot_ns: int) -> int:
        """Spool time now, as far as it is certain: under another boot, boot time began again at zero."""
        return self.spool_ns + max(0, boot_ns - self.boot_ns)


class SpoolTime:
    """Spool time while the spool is open."""

    def __init__(self, clock: Clock, begun_ns: int) -> None:
        self._clock = clock
        self._ahead_ns = begun_ns - clock.boot_ns()

    def now_ns(self) -> int:
        return self.at(self._clock.boot_ns())

    def at(self, boot_ns: int) -> int:
        return boot_ns + self._ahead_ns

    def boot_ns_at(self, spool_ns: int) -> int:
        return spool_ns - self._ahead_ns

    def to_write_down(self) -> Aged:
        boot_ns = self._clock.boot_ns()
        return Aged(self.at(boot_ns), boot_ns)
