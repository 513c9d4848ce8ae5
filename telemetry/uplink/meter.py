"""What all ways share of the network: whether something may go, how fast, how much at once, and in which turn.

Records and objects ask the same Meter, so that a budget, a pace and the line are never promised twice. P0 waits for
none of it but its own reserve of the day's bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock
from ecu.conditions import Network
from ecu.network import NetworkSource, SettableNetwork
from telemetry.links.link import LinkError
from telemetry.records import Lane
from telemetry.uplink.allowance import Held, lane_held, releases_held
from telemetry.uplink.daybook import DayBook
from telemetry.uplink.downloads import Downloads, attempt_bytes
from telemetry.uplink.networks import NetworkConfig, NetworkRule
from telemetry.uplink.speed import SMALL_BYTES, Exchange, Speed

BLOCK_OVERHEAD_BYTES: Final = 400
"""A block's topic, acknowledgement and receipt, and what TLS adds to each."""
SLICE_OVERHEAD_BYTES: Final = 1000
"""A slice's question and answer, without its bytes."""
KEEP_ALIVE_BYTES: Final = 204
"""A PINGREQ and a PINGRESP of MQTT, 2 B each (section 3.12), in a TLS record of 22 B more, and an empty packet that
acknowledges, with 52 B of IP, TCP and its timestamps each."""
PACKETS_SHARE: Final = 25
"""Headers of IP and TCP are a 25th of a full packet, and no less than that is added."""
OBJECTS_SHARE: Final = 7
"""While records and objects both want the line, objects have one byte for seven of the records: what P3 has of it."""
MOST_SLICES: Final = 2
"""One on the line, and one whose answer is on its way."""
EARLY: Final = 0.85
"""Of its time on the line; then the next may begin."""
LOOK_NS: Final = 100 * MILLISECOND_NS
WATCH_NS: Final = SECOND_NS


class Kind(Enum):
    """What goes out."""

    URGENT = "urgent"  # P0, and what is too small to matter: it takes no room
    BLOCK = "block"
    SLICE = "slice"


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """Something under way, to be given back to `ended` or `failed`; the first word of it counts."""

    exchange: Exchange
    kind: Kind

    @property
    def size(self) -> int:
        return self.exchange.size


@dataclass(frozen=True, slots=True)
class MeterStatus:
    """`gone_bytes` of today's `budget_bytes` went and came over this network, which has no limit when that is 0; the
    day ends at `day_ends_ns`, boot time. `bytes_per_s` is what the network was seen to carry, None while that isn't
    known. `held` is by lane's name; `fault` what went wrong with keeping count."""

    network: str
    interface: str
    gone_bytes: int
    budget_bytes: int
    day_ends_ns: int
    bytes_per_s: float | None
    held: dict[str, Held]
    fault: str


class Meter:
    """Shared by the uplinks of one vehicle; lives in their event loop. Without configuration it only keeps the line
    from filling up."""

    def __init__(
        self,
        clock: Clock,
        config: NetworkConfig | None = None,
        source: NetworkSource | None = None,
        days: DayBook | None = None,
    ) -> None:
        self._clock = clock
        self._config = config or NetworkConfig()
        self._source = source or SettableNetwork(Network.NONE)
        self._days = days or DayBook(None, clock, "")
        self.downloads = Downloads(self._config, self._source, self._days)
        self._speed = Speed()
        self._reach = self._source.now()
        self._looked_ns = clock.boot_ns()
        self._free_at_ns = 0
        self._open = set[Passage]()
        self._line_free_ns = 0
        self._slice_waits: int | None = None
        self._owed = 0.0
        self._records_wait = False
        self._claiming = asyncio.Lock()
        self._news = asyncio.Event()

    # --- the network ---

    async def watch(self, on_change: Callable[[], None] = lambda: None) -> None:
        """Until cancelled: notices another network, also while nobody asks. `on_change` is told of one."""
        while True:
            before = self._reach
            self._look()
            if self._reach != before:
                on_change()
            await self._clock.sleep_until(self._clock.boot_ns() + WATCH_NS)

    async def until_news(self, at_ns: int | None = None) -> None:
        """Until what may go may have changed, or boot time is `at_ns`."""
        await self.first(self._news, at_ns)

    async def until_releases_let(self) -> None:
        """Until releases may be fetched: over another network, or on another day."""
        self._look()
        # By the reading that news are told against: the computer's own may differ from it for a moment.
        while (held := self._releases_held()) is not None:
            await self.until_news(held.until_ns)

    def _releases_held(self) -> Held | None:
        return releases_held(self._reach.network, self._rule(), self._days)

    def after_ns(self, seconds: float) -> int:
        """Boot time so long from now, by this meter's clock."""
        return self._clock.boot_ns() + int(seconds * SECOND_NS)

    async def first(self, event: asyncio.Event, at_ns: int | None) -> None:
        """Until `event` is set, or boot time is `at_ns` by this meter's clock."""
        if at_ns is None:
            await event.wait()
            return
        waits: list[asyncio.Future[object]] = [
            asyncio.ensure_future(event.wait()),
            asyncio.ensure_future(self._clock.sleep_until(at_ns)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _look(self) -> None:
        self._looked_ns = self._clock.boot_ns()
        reach = self._source.now()
        if reach != self._reach:
            self._reach = reach
            self._speed.forget()
            self._free_at_ns = self._line_free_ns = 0
            self._tell()

    def _rule(self) -> NetworkRule:
        if self._clock.boot_ns() - self._looked_ns >= LOOK_NS:
            self._look()
        return self._config.rule(self._reach.network)

    # --- whether ---

    def held(self, lane: Lane) -> Held | None:
        """Why this lane has to wait for another network or another day; None when it hasn't."""
        rule = self._rule()
        return lane_held(lane, self._reach.network, rule, self._days)

    def may_send(self, lane: Lane, size: int) -> bool:
        """Whether a block of records may go now."""
        if self.held(lane) is not None:
            return False
        return lane is Lane.P0 or (self._has_room(size) and not self._slice_is_owed())

    def wakes_ns(self, lane: Lane) -> int | None:
        """Boot time at which this lane may go though nothing else happens; None when only something else lets it."""
        if (held := self.held(lane)) is not None:
            return held.until_ns
        now_ns = self._clock.boot_ns()
        return next((at_ns for at_ns in (self._free_at_ns, self._line_free_ns) if at_ns > now_ns), None)

    @property
    def has_records_waiting(self) -> bool:
        """Whether records below P0 want the line and can't have it just now."""
        return self._records_wait

    def records_wait(self, they_do: bool) -> None:
        if self._records_wait != they_do:
            self._records_wait = they_do
            self._tell()

    # --- the line ---

    def begin(self, lane: Lane, size: int) -> Passage:
        """A block goes out."""
        if lane is not Lane.P0 and self._slice_waits is not None:
            self._owed += size / OBJECTS_SHARE
        return self._begin(size, BLOCK_OVERHEAD_BYTES, Kind.URGENT if lane is Lane.P0 else Kind.BLOCK)

    def begin_question(self) -> Passage:
        """Something small about objects goes out and is answered."""
        return self._begin(0, SLICE_OVERHEAD_BYTES, Kind.URGENT)

    def reported(self, size: int) -> None:
        """A status report of that size goes out."""
        self._spend(size + BLOCK_OVERHEAD_BYTES)

    def kept_alive(self) -> None:
        """A link that stands asked whether the other side is there."""
        self._days.add(self._reach.network.value, KEEP_ALIVE_BYTES)

    def attempted(self, failure: LinkError | None = None) -> None:
        """A connection was tried: it costs little if nobody answered."""
        self._spend(attempt_bytes(failure))

    def ended(self, passage: Passage) -> None:
        """It was answered."""
        if passage not in self._open:
            return
        now_ns = self._clock.boot_ns()
        self._speed.end(passage.exchange, now_ns)
        self._give_back(passage)
        if passage.kind is not Kind.URGENT:
            under_way = sum(each.size for each in self._taking())
            # It left a round trip ago: what is still under way has been on the line since. Guesses don't add up.
            rest_ns = int(EARLY * self._speed.carries_in_ns(under_way)) - self._speed.round_trip_ns
            self._line_free_ns = now_ns + max(0, rest_ns)

    def failed(self, passage: Passage) -> None:
        """Nobody answered, or its time says nothing of the network's."""
        if passage in self._open:
            self._speed.fail()
            self._give_back(passage)

    async def written(self) -> None:
        """Until flash knows of all that went and is about to."""
        rule, kind = self._rule(), self._reach.network.value
        if not rule.bytes_per_day or self._days.is_claimed(kind):
            return
        async with self._claiming:
            if not self._days.is_claimed(kind):
                await asyncio.to_thread(self._days.claim, kind, rule.bytes_per_day)

    async def slice_turn(self, most_bytes: int) -> Passage | None:
        """Waits for a slice's turn: of as much as the line carries in its time, `most_bytes` at most. None when objects
        have to wait for another network or day."""
        try:
            while self.held(Lane.P3) is None:
                size = min(most_bytes, self.slice_bytes)
                if size != self._slice_waits:
                    self._slice_waits = size
                    self._tell()  # one that is longer now isn't owed any more to who waits behind it
                if self._slice_may_go(size):
                    return self._begin_slice(size)
                await self.until_news(self.wakes_ns(Lane.P3))
            return None
        finally:
            self._slice_waits = None
            self._tell()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing that takes room is under way."""
        return not self._taking()

    @property
    def knows_round_trip(self) -> bool:
        """Whether it was seen how long the network takes for next to nothing."""
        return self._speed.knows_round_trip

    @property
    def slice_bytes(self) -> int:
        """How much of an object goes at once."""
        rate = self._rule().kbit_s * 1000 / 8
        size = self._speed.slice_bytes
        return min(size, max(SMALL_BYTES, int(rate / 4))) if rate else size

    def proven(self, wall_ns: int) -> None:
        """Wall time is proven now."""
        self._days.proven(wall_ns)
        self._tell()

    def close(self) -> None:
        """Writes down exactly what went. It blocks."""
        self._days.close()

    def status(self) -> MeterStatus:
        rule = self._rule()
        held = {lane.name: why for lane in Lane if (why := self.held(lane)) is not None}
        gone = self._days.gone(self._reach.network.value, rule.bytes_per_day)
        return MeterStatus(
            network=self._reach.network.value,
            interface=self._reach.interface,
            gone_bytes=gone,
            budget_bytes=rule.bytes_per_day,
            day_ends_ns=self._days.ends_ns,
            bytes_per_s=self._speed.bytes_per_s,
            held=held,
            fault=self._days.fault,
        )

    # --- inside ---

    def _has_room(self, size: int) -> bool:
        """Something may always be on the line, however slow it is and long the block."""
        now_ns, taking = self._clock.boot_ns(), self._taking()
        if now_ns < self._free_at_ns:
            return False
        if not taking or sum(each.size for each in taking) + size <= self._speed.room_bytes:
            return True
        # Where only one fits, the next follows it as slices do; several keep the line busy by themselves.
        return len(taking) == 1 and self._is_line_free(now_ns)

    def _taking(self) -> list[Passage]:
        """What takes room of the line."""
        return [each for each in self._open if each.kind is not Kind.URGENT]

    def _is_line_free(self, now_ns: int) -> bool:
        """Of what is under way only the answer is awaited, as far as is known of the line."""
        return self._speed.bytes_per_s is not None and self._line_free_ns <= now_ns

    def _slice_is_owed(self) -> bool:
        return self._slice_waits is not None and self._owed >= self._slice_waits

    def _slice_may_go(self, size: int) -> bool:
        """The one before has left the line, or is about to; and the records have had their part."""
        now_ns = self._clock.boot_ns()
        if now_ns < self._free_at_ns or (self._records_wait and self._owed < size):
            return False
        slices = sum(each.kind is Kind.SLICE for each in self._open)
        if slices == 0:
            return self._has_room(size)
        return slices < MOST_SLICES and self._is_line_free(now_ns)

    def _begin_slice(self, size: int) -> Passage:
        self._owed = max(0.0, self._owed - size)
        return self._begin(size, SLICE_OVERHEAD_BYTES, Kind.SLICE)

    def _begin(self, size: int, overhead: int, kind: Kind) -> Passage:
        self._spend(size + overhead)
        now_ns = self._clock.boot_ns()
        if kind is not Kind.URGENT:
            # A little early: a line that is thought slower than it is would else never be seen to be faster.
            self._line_free_ns = max(self._line_free_ns, now_ns) + int(EARLY * self._speed.carries_in_ns(size))
        passage = Passage(self._speed.begin(size, now_ns), kind)
        self._open.add(passage)
        return passage

    def _spend(self, size: int) -> None:
        cost = size + -(-size // PACKETS_SHARE)
        rule = self._rule()
        self._days.add(self._reach.network.value, cost)
        if rule.kbit_s:
            rate = rule.kbit_s * 1000 / 8
            self._free_at_ns = max(self._free_at_ns, self._clock.boot_ns()) + int(cost / rate * SECOND_NS)

    def _give_back(self, passage: Passage) -> None:
        self._open.remove(passage)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
