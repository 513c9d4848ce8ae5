"""How fast the network carries, judged by how long exchanges take, and how much may be under way at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from ecu.clock import MILLISECOND_NS, SECOND_NS

TINY_BYTES: Final = 1024
"""So little takes a round trip, and no time on any line worth the name."""
SMALL_BYTES: Final = 4 * 1024
"""So much may always be under way. Where nothing tiny is ever sent, it has to do for a round trip."""
FIRST_BYTES: Final = 16 * 1024
MOST_BYTES: Final = 4 * 1024 * 1024
QUEUE_NS: Final = 250 * MILLISECOND_NS
LONGEST_QUEUE_NS: Final = 500 * MILLISECOND_NS
ROUND_TRIPS: Final = 9
"""A queue of so many round trips keeps the line busy for nine tenths of the time when one exchange follows another."""
_REMEMBERED: Final = 8


@dataclass(frozen=True, slots=True)
class Exchange:
    """Something under way: `delivered` is all that had been delivered when it began."""

    size: int
    began_ns: int
    delivered: int


class Speed:
    """Knows nothing of the network but the times of exchanges, as BBR does (Cardwell et al., "BBR: Congestion-Based
    Congestion Control", ACM Queue 14(5), 2016): its rate is the most that was delivered within an exchange, its round
    trip the shortest of the tiny ones, both of a few last.

    `room_bytes` is what keeps the line busy and lets nobody who comes now wait behind more than a quarter of a second
    of it; up to half a second where round trips would else take more than a tenth.
    """

    def __init__(self) -> None:
        self._delivered = 0
        self._rates: deque[float] = deque(maxlen=_REMEMBERED)
        self._round_trips_ns: deque[int] = deque(maxlen=_REMEMBERED)

    def begin(self, size: int, now_ns: int) -> Exchange:
        return Exchange(size, now_ns, self._delivered)

    def end(self, exchange: Exchange, now_ns: int) -> None:
        """It was answered."""
        took_ns = max(1, now_ns - exchange.began_ns)
        self._delivered += exchange.size
        meanwhile = self._delivered - exchange.delivered
        if exchange.size <= (SMALL_BYTES if not self._round_trips_ns else TINY_BYTES):
            self._round_trips_ns.append(took_ns)
        if meanwhile > SMALL_BYTES:  # less says nothing of the line
            self._rates.append(meanwhile / took_ns)

    def forget(self) -> None:
        """Another network."""
        self._rates.clear()
        self._round_trips_ns.clear()

    @property
    def bytes_per_s(self) -> float | None:
        """None while nothing is known."""
        return max(self._rates) * SECOND_NS if self._rates else None

    @property
    def room_bytes(self) -> int:
        if not self._rates:
            return FIRST_BYTES
        round_trip_ns = min(self._round_trips_ns, default=0)
        queue_ns = min(max(QUEUE_NS, ROUND_TRIPS * round_trip_ns), LONGEST_QUEUE_NS)
        room = max(self._rates) * (round_trip_ns + queue_ns)
        return int(min(max(room, SMALL_BYTES), MOST_BYTES))
