"""Whether a source's stamps may be believed, and how they become boot time if not.

A source stamps what it tells with boot time as it knows it. A clock that is off, or jumps, would make its samples come
from the future, or make the true ones after them look late: then what is told now is taken to be of now, and from there
on the source's clock is only believed for distances.
"""

from __future__ import annotations

from typing import Final

from ecu.clock import SECOND_NS

TOLERANCE_NS: Final = SECOND_NS
PATIENCE_NS: Final = 5 * SECOND_NS


class Anchor:
    """What is added to a source's stamps. `moved` counts how often that had to change."""

    def __init__(self) -> None:
        self.moved = 0
        self.offset_ns = 0
        self._last_ns: int | None = None
        self._behind_since_ns: int | None = None

    def greet(self, source_now_ns: int, now_ns: int) -> None:
        """A source begins: `source_now_ns` is its clock as it says so."""
        self.offset_ns = 0
        self._last_ns = self._behind_since_ns = None
        if abs(source_now_ns - now_ns) > TOLERANCE_NS:
            self._move(source_now_ns, now_ns)

    def see(self, first_ns: int, last_ns: int, now_ns: int) -> None:
        """Stamps that came now, the first of them and the last, not descending between: `offset_ns` is theirs then."""
        if self._is_off(first_ns, last_ns, now_ns):
            self._move(last_ns, now_ns)
        self._last_ns = last_ns + self.offset_ns

    def _is_off(self, first_ns: int, last_ns: int, now_ns: int) -> bool:
        first_ns, last_ns = first_ns + self.offset_ns, last_ns + self.offset_ns
        ahead = last_ns > now_ns + TOLERANCE_NS
        back = self._last_ns is not None and first_ns < self._last_ns - TOLERANCE_NS
        return ahead or back or self._is_behind_for_long(last_ns, now_ns)

    def _is_behind_for_long(self, last_ns: int, now_ns: int) -> bool:
        """What waited in a buffer, as through a suspend, is old indeed; what stays behind has another clock."""
        if last_ns >= now_ns - TOLERANCE_NS:
            self._behind_since_ns = None
            return False
        if self._behind_since_ns is None:
            self._behind_since_ns = now_ns
        return now_ns - self._behind_since_ns > PATIENCE_NS

    def _move(self, source_ns: int, now_ns: int) -> None:
        self.offset_ns = now_ns - source_ns
        self.moved += 1
        self._behind_since_ns = None
