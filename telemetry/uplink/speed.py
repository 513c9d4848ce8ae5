"""How fast the network carries, judged by how long exchanges take, and how much may be under way at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from ecu.clock import MILLISECOND_NS, SECOND_NS

TINY_BYTES: Final = 1024
"""So little takes a round trip, and no time on any line worth the name."""
SMALL_BYTES: Final = 4 * 1024
"""So much may always be under way."""
FIRST_BYTES: Final = 16 * 1024
MOST_BYTES: Final = 4 * 1024 * 1024
QUEUE_NS: Final = 250 * MILLISECOND_NS
LONGEST_QUEUE_NS: Final = 600 * MILLISECOND_NS
"""With it P0 still has its receipt within a second."""
ROUND_TRIPS: Final = 18
"""Of so many round trips one is a twentieth: as much again goes to headers and the receiver's own flash."""
_REMEMBERED: Final = 8


@dataclass(frozen=True, slots=True)
class Exchange:
    """Something under way. When it began, `delivered` bytes had been delivered, the last of them at `since_ns` if there
    was anything else under way; `is_alone` if there wasn't."""

    size: int
    began_ns: int
    delivered: int
    since_ns: int
    is_alone: bool


class Speed:
    """Knows nothing of the network but the times of exchanges, as BBR does (Cardwell et al., "BBR: Congestion-Based
    Congestion Control", ACM Queue 14(5), 2016): its rate is the most that was delivered while an exchange lasted, its
    round trip the shortest of those that were tiny and alone, both of a few last.

    `room_bytes` is what keeps the line busy and lets nobody who comes now wait behind more than a quarter of a second
    of it; up to 600 ms where round trips would else take more than a tenth, or aren't known.
    """

    def __init__(self) -> None:
        self._delivered = 0
        self._delivered_ns = 0
        self._under_way = 0
        self._rates: deque[float] = deque(maxlen=_REMEMBERED)
        self._round_trips_ns: deque[int] = deque(maxlen=_REMEMBERED)

    def begin(self, size: int, now_ns: int) -> Exchange:
        is_alone = self._under_way == 0
        self._under_way += 1
        return Exchange(size, now_ns, self._delivered, now_ns if is_alone else self._delivered_ns, is_alone)

    def end(self, exchange: Exchange, now_ns: int) -> None:
        """It was answered."""
        self._under_way -= 1
        self._delivered += exchange.size
        self._delivered_ns = now_ns
        if exchange.is_alone and exchange.size <= TINY_BYTES:
            self._round_trips_ns.append(now_ns - exchange.began_ns)
        meanwhile = self._delivered - exchange.delivered
        if meanwhile > SMALL_BYTES:  # less says nothing of the line
            self._rates.append(meanwhile / max(1, now_ns - exchange.since_ns))

    def fail(self) -> None:
        """Nobody answered; or what the time says is of something else."""
        self._under_way -= 1

    def forget(self) -> None:
        """Another network."""
        self._rates.clear()
        self._round_trips_ns.clear()

    @property
    def bytes_per_s(self) -> float | None:
        """None while nothing is known."""
        return max(self._rates) * SECOND_NS if self._rates else None

    @property
    def round_trip_ns(self) -> int:
        """0 while it isn't known."""
        return min(self._round_trips_ns, default=0)

    @property
    def knows_round_trip(self) -> bool:
        return bool(self._round_trips_ns)

    @property
    def slice_bytes(self) -> int:
        """What the line carries in a quarter of a second."""
        if not self._rates:
            return FIRST_BYTES
        return int(min(max(max(self._rates) * QUEUE_NS, SMALL_BYTES), MOST_BYTES))

    def carries_in_ns(self, size: int) -> int:
        """How long the line is busy with so many bytes; 0 while that isn't known."""
        return int(size / max(self._rates)) if self._rates else 0

    @property
    def room_bytes(self) -> int:
        if not self._rates:
            return FIRST_BYTES
        round_trip_ns = self.round_trip_ns
        queue_ns = max(QUEUE_NS, ROUND_TRIPS * round_trip_ns) if self._round_trips_ns else LONGEST_QUEUE_NS
        room = max(self._rates) * (round_trip_ns + min(queue_ns, LONGEST_QUEUE_NS))
        return int(min(max(room, SMALL_BYTES), MOST_BYTES))
