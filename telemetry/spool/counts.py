"""Law 1 in numbers: where every record that was ever offered is now, lane by lane.

    offered = durable + pending + dropped + lost_in_crash
    durable = acknowledged + spooled + evicted + quarantined + erased

Both sides of both lines are counted apart, by whoever did it, and only compared here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Protocol

from telemetry.records import Lane


class Dropped(StrEnum):
    """Why a record never became durable."""

    QUEUE_FULL = "queue_full"  # records came faster than flash takes them
    TOO_LARGE = "too_large"  # no block could hold it
    DISK_FULL = "disk_full"  # no segment could be had for its lane
    DISK_FAULT = "disk_fault"  # flash fails
    ERASED = "erased"  # its purpose was purged before it was committed


class Evicted(StrEnum):
    """Why a durable record had to go before anybody stored it."""

    QUOTA = "quota"  # [spool] max_bytes
    DISK_FULL = "disk_full"  # the file system has less than that
    EXPIRED = "expired"  # nobody wanted it any more


class Quarantined(StrEnum):
    """Why a durable record can't be delivered."""

    CORRUPT = "corrupt"  # its bytes changed on flash, or can't be read
    MISSING = "missing"  # it was counted as durable, and no segment holds it now
    UNREADABLE = "unreadable"  # as missing, but a segment of its lane can't be read now: never written down
    KEY_LOST = "key_lost"  # the key store can't open the key of its purpose
    REFUSED = "refused"  # the other side will never take it


@cache
def counter(lane: Lane, what: str) -> str:
    """The name of one of LEDGER_NAMES."""
    return f"{lane.name.lower()}_{what}"


LEDGER_NAMES = tuple(
    counter(lane, what)
    for lane in Lane
    for what in ("offered", "durable", *(f"dropped_{reason.value}" for reason in Dropped))
)
"""The counters that a kill must not take; `Ledger.open(path, LEDGER_NAMES, boot_id)` makes them."""


class Counters(Protocol):
    """Named counts that outlive their process, all those of one call changing together. `ecu.ledger.Ledger` is one."""

    @property
    def was_lost(self) -> bool:
        """There had been counts, and they are gone: a power cut."""
        ...

    def add(self, **deltas: int) -> None: ...

    def set(self, **values: int) -> None: ...

    def values(self) -> Mapping[str, int]: ...


class MemoryCounters:
    """Counters that end with the process: replays that leave nothing behind, and tests."""

    def __init__(self, was_lost: bool = False, names: Sequence[str] = LEDGER_NAMES) -> None:
        self.was_lost = was_lost
        self._counts = dict.fromkeys(names, 0)

    def add(self, **deltas: int) -> None:
        for name, delta in deltas.items():
            self._counts[name] += delta

    def set(self, **values: int) -> None:
        for name, value in values.items():
            self._counts[name] = value

    def values(self) -> Mapping[str, int]:
        return MappingProxyType(dict(self._counts))


@dataclass(frozen=True, slots=True)
class Totals:
    """What became of a lane's durable records, and of those that never were, since the spool began."""

    acknowledged: int = 0
    evicted: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    erased: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    lost_in_crash: int = 0

    @property
    def left(self) -> int:
        """Durable records that aren't spooled any more."""
        return self.acknowledged + sum(self.evicted.values()) + sum(self.quarantined.values()) + self.erased


def with_added(tally: Mapping[str, int], reason: str, records: int) -> Mapping[str, int]:
    return {**tally, str(reason): tally.get(reason, 0) + records} if records else tally


@dataclass(frozen=True, slots=True)
class Counted:
    """What the counters say of one lane."""

    offered: int
    durable: int
    dropped: Mapping[str, int]


def counted(values: Mapping[str, int], lane: Lane) -> Counted:
    dropped = {reason.value: values[counter(lane, f"dropped_{reason.value}")] for reason in Dropped}
    return Counted(
        values[counter(lane, "offered")],
        values[counter(lane, "durable")],
        {reason: records for reason, records in dropped.items() if records},
    )


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a lane's counts start in this process. `behind`: the counters knew less than flash does."""

    offered: int
    durable: int
    totals: Totals
    unreadable: int
    behind: bool


def reconcile(ledger: Counted, totals: Totals, spooled: int, may_return: bool = False) -> Opening:
    """Flash is the truth about what is durable; the counters are about what is lost.

    Records that the counters know as durable and flash hasn't got are missing; what was offered and is neither durable
    nor dropped was lost in a crash. Counters that a power cut took can only say less than the truth: they are raised.

    `may_return`: a segment of the lane can't be read now. What is missing may be spooled at the next start, and would
    be counted twice if the totals held it.
    """
    durable = max(ledger.durable, totals.left + spooled)
    absent = durable - totals.left - spooled
    unreadable = absent if may_return else 0
    quarantined = with_added(totals.quarantined, Quarantined.MISSING, absent - unreadable)
    dropped = {r: max(ledger.dropped.get(r, 0), totals.dropped.get(r, 0)) for r in {**ledger.dropped, **totals.dropped}}
    known = durable + sum(dropped.values())
    offered = max(ledger.offered, known + totals.lost_in_crash)
    now = Totals(totals.acknowledged, totals.evicted, quarantined, totals.erased, dropped, offered - known)
    return Opening(offered, durable, now, unreadable, behind=offered > ledger.offered)


@dataclass(frozen=True, slots=True)
class Conservation:
    """Both sides of both lines of law 1."""

    offered: int
    accounted: int
    durable: int
    placed: int

    @property
    def holds(self) -> bool:
        return self.offered == self.accounted and self.durable == self.placed


@dataclass(frozen=True, slots=True)
class LaneCounts:
    """One lane's records."""

    lane: Lane
    offered: int
    durable: int
    pending: int
    dropped: Mapping[str, int]
    lost_in_crash: int
    acknowledged: int
    spooled: int
    evicted: Mapping[str, int]
    quarantined: Mapping[str, int]
    erased: int

    @property
    def conservation(self) -> Conservation:
        gone = self.acknowledged + sum(self.evicted.values()) + sum(self.quarantined.values()) + self.erased
        return Conservation(
            self.offered,
            self.durable + self.pending + sum(self.dropped.values()) + self.lost_in_crash,
            self.durable,
            gone + self.spooled,
        )


def lane_counts(
    lane: Lane, counters: Counted, pending: int, totals: Totals, spooled: int, unreadable: int = 0
) -> LaneCounts:
    return LaneCounts(
        lane=lane,
        offered=counters.offered,
        durable=counters.durable,
        pending=pending,
        dropped=counters.dropped,
        lost_in_crash=totals.lost_in_crash,
        acknowledged=totals.acknowledged,
        spooled=spooled,
        evicted=totals.evicted,
        quarantined=with_added(totals.quarantined, Quarantined.UNREADABLE, unreadable),
        erased=totals.erased,
    )


@dataclass(frozen=True, slots=True)
class SpoolCounts:
    """All lanes, P0 first, and the flash they use."""

    lanes: tuple[LaneCounts, ...]
    segments: int
    free_segments: int
    flash_bytes: int
    ledger_lost: bool
    books_lost: bool
    receipts_ignored: int
    last_refusal: str | None
    fault: str | None
    why_full: str | None
    untold: int = 0  # records that left without an acknowledgement, of which no durable record tells yet
    copies: int = 0  # of blocks in quarantine, kept to be looked at
    dictionary_fault: str = ""  # why blocks are packed without one

    @property
    def holds(self) -> bool:
        return all(lane.conservation.holds for lane in self.lanes)
