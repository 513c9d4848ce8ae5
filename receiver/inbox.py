"""Blocks made durable: one transaction for many, each told apart as new, known or in conflict.

"Stored" is a row here, committed. A vehicle, lane and epoch are one stream; its records are stored once each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import BigInteger, Connection, Executable, bindparam, delete, func, insert, select

from receiver import admission, departed, journal, versions
from receiver.prepared import Inserter, Prepared, Values
from receiver.rollouts import reports as rollout_reports
from receiver.tables import coverage, inbox, learning_queue, quarantine
from telemetry.records import PLACES, Lane, Learned, RecordsLeft, UpdateReport
from telemetry.spool.intervals import IntervalSet, Range
from telemetry.wire import BadBlock, BlockHeader, UnknownDictionary, unpack_body

QUARANTINED_PER_VEHICLE = 256
RANGES_PER_VEHICLE = 1 << 18
"""Of numbers, in all its streams. A vehicle begins four at each start: ten starts a day for eighteen years."""


class Outcome(Enum):
    """What became of a block."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # the same bytes are stored already: a receipt again
    BAD = "bad"  # no block of this version
    CONFLICT = "conflict"  # other bytes are stored under these numbers; these are kept in quarantine
    UNSETTLED = "unsettled"  # a conflict too, but quarantine is full: only the vehicle has these bytes
    THROTTLED = "throttled"  # not now


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome, and the words for whoever sent the block."""

    outcome: Outcome
    words: str = ""

    @property
    def is_stored(self) -> bool:
        return self.outcome in (Outcome.STORED, Outcome.DUPLICATE)


Answer = Callable[[Verdict], None]
"""Who hears what became of a block."""

STORED: Final = Verdict(Outcome.STORED)
DUPLICATE: Final = Verdict(Outcome.DUPLICATE)


class Place(NamedTuple):
    """One stream of a vehicle."""

    vehicle: str
    lane: Lane
    epoch: bytes


class Arrival(msgspec.Struct, frozen=True):
    """A block whose header and checksum are right, from a vehicle known by its certificate."""

    vehicle: str
    header: BlockHeader
    block: bytes
    body: bytes

    @property
    def place(self) -> Place:
        return Place(self.vehicle, self.header.lane, self.header.epoch)


@dataclass(slots=True)
class Shelf:
    """What is known of one stream within a transaction. Pure: whoever uses it reads and writes the tables."""

    stored: IntervalSet
    known: dict[int, bytes]  # base_seq -> sha256, of blocks that could be meant again
    before: tuple[tuple[int, int], ...] = ()
    fresh: list[tuple[Arrival, bytes]] = field(default_factory=list)

    def stands_alone(self, header: BlockHeader) -> bool:
        """It would be a range of its own, with gaps on both sides."""
        return not self.stored.touches(header.base_seq - 1, header.end_seq + 1)

    def judge(self, arrival: Arrival, digest: bytes) -> Verdict:
        """Takes a new block; says what any other is."""
        header = arrival.header
        if self.known.get(header.base_seq) == digest:
            return DUPLICATE
        # Not before: what is sent again and again must not be inflated again and again.
        if (fault := _fault_of(arrival)) is not None:
            return fault
        if self.stored.touches(header.base_seq, header.end_seq):
            name = f"{header.lane.name} {header.base_seq}-{header.end_seq - 1}"
            return Verdict(Outcome.CONFLICT, f"other records are stored as {name} of this epoch")
        self.stored.add(header.base_seq, header.end_seq)
        self.known[header.base_seq] = digest
        self.fresh.append((arrival, digest))
        return STORED


def commit(
    connection: Connection, arrivals: Sequence[Arrival], now_ns: int, ranges_per_vehicle: int = RANGES_PER_VEHICLE
) -> list[Verdict]:
    """One verdict an arrival, in order. What is STORED is so when the transaction is committed."""

    @cache
    def is_full(vehicle: str) -> bool:
        return _ranges_of(connection, vehicle) >= ranges_per_vehicle

    shelves = _shelves(connection, arrivals)
    verdicts = [_settle(connection, shelves, arrival, is_full, now_ns) for arrival in arrivals]
    fresh = [new for shelf in shelves.values() for new in shelf.fresh]
    _insert_blocks(connection, fresh, now_ns)
    _queue_learned(connection, [arrival for arrival, _ in fresh])
    _keep_what_vehicles_say_of_themselves(connection, [arrival for arrival, _ in fresh], now_ns)
    rollout_reports.enqueue(connection, [(arrival.vehicle, arrival.header) for arrival, _ in fresh], now_ns)
    _save_coverage(connection, shelves)
    admission.mark_seen(connection, dict.fromkeys((arrival.vehicle for arrival in arrivals), now_ns))
    return verdicts


def _settle(
    connection: Connection,
    shelves: dict[Place, Shelf],
    arrival: Arrival,
    is_full: Callable[[str], bool],
    now_ns: int,
) -> Verdict:
    shelf = shelves[arrival.place]
    if shelf.stands_alone(arrival.header) and is_full(arrival.vehicle):
        return Verdict(Outcome.THROTTLED, "this vehicle's records have more gaps than are kept track of")
    digest = hashlib.sha256(arrival.block).digest()
    verdict = shelf.judge(arrival, digest)
    if verdict.outcome is Outcome.CONFLICT and not _quarantine(connection, arrival, digest, verdict.words, now_ns):
        return Verdict(Outcome.UNSETTLED, f"{verdict.words}, and its quarantine is full")
    return verdict


def _fault_of(arrival: Arrival) -> Verdict | None:
    """What keeps it from being stored. A vehicle that was updated before this receiver loses nothing by that."""
    try:
        unpack_body(arrival.header, arrival.body)
    except UnknownDictionary as error:
        return Verdict(Outcome.THROTTLED, str(error))
    except BadBlock as error:
        return Verdict(Outcome.BAD, str(error))
    return None


def _shelves(connection: Connection, arrivals: Iterable[Arrival]) -> dict[Place, Shelf]:
    wanted: dict[Place, set[Range]] = {}
    for arrival in arrivals:
        wanted.setdefault(arrival.place, set()).add((arrival.header.base_seq, arrival.header.end_seq))
    return {place: _shelf(connection, place, spans) for place, spans in wanted.items()}


def _shelf(connection: Connection, place: Place, spans: set[Range]) -> Shelf:
    stored = IntervalSet(sorted(_near(connection, place, sorted(spans))))
    maybe = sorted({base for base, _ in spans if stored.covers(base, base + 1)})
    return Shelf(stored, _digests(connection, place, maybe) if maybe else {}, tuple(stored))


def _near(connection: Connection, place: Place, spans: list[Range]) -> set[Range]:
    """Those stored ranges that tell what each of `spans` (ascending) is, whatever else the stream holds."""
    enough = 2 * len(spans)
    found = _meeting(connection, place, spans[0][0], max(end for _, end in spans), enough + 1)
    # A new span meets two at most, one at each end. Where one meets three, the middle one is within it: a conflict.
    if len(found) <= enough or len(spans) == 1:
        return found
    middle = len(spans) // 2
    return _near(connection, place, spans[:middle]) | _near(connection, place, spans[middle:])


def _meeting(connection: Connection, place: Place, start: int, end: int, most: int) -> set[Range]:
    """The first `most` stored ranges that overlap or touch start-end."""
    return {(first, last) for first, last in _MEETING.rows(connection, (*_key(place), start, end, most))}


def _select_meeting() -> Executable:
    first, last = coverage.c.first_seq, coverage.c.end_seq
    start, end = bindparam("start", type_=BigInteger), bindparam("end", type_=BigInteger)
    # Stored ranges lie apart, so of those that begin by `start` only the last can reach it: the primary key finds it.
    nearest = select(func.max(first)).where(*_is_key, first <= start).scalar_subquery()
    meets = first >= func.coalesce(nearest, start), first <= end, last >= start
    return select(first, last).where(*_is_key, *meets).order_by(first).limit(bindparam("most", type_=BigInteger))


def _key(place: Place) -> Values:
    return place.vehicle, int(place.lane), place.epoch


_KEY = "vehicle", "lane", "epoch"
_is_key = [coverage.c[name] == bindparam(name) for name in _KEY]
_MEETING = Prepared(_select_meeting, [*_KEY, "start", "end", "most"])
_DELETE_RANGE = Prepared(
    lambda: delete(coverage).where(*_is_key, coverage.c.first_seq == bindparam("first")), [*_KEY, "first"]
)
_INSERT_RANGES = Inserter(coverage)
_INSERT_BLOCKS = Inserter(inbox)


def _ranges_of(connection: Connection, vehicle: str) -> int:
    mine = coverage.c.vehicle == vehicle
    return int(connection.execute(select(func.count()).select_from(coverage).where(mine)).scalar_one())


def _digests(connection: Connection, place: Place, bases: list[int]) -> dict[int, bytes]:
    key = inbox.c.vehicle == place.vehicle, inbox.c.lane == int(place.lane), inbox.c.epoch == place.epoch
    rows = connection.execute(select(inbox.c.base_seq, inbox.c.sha256).where(*key, inbox.c.base_seq.in_(bases)))
    return {row.base_seq: row.sha256 for row in rows}


def _insert_blocks(connection: Connection, fresh: list[tuple[Arrival, bytes]], now_ns: int) -> None:
    _INSERT_BLOCKS.run(connection, [_row(arrival, digest, now_ns) for arrival, digest in fresh])


def _row(arrival: Arrival, digest: bytes, now_ns: int) -> Values:
    header = arrival.header
    who = arrival.vehicle, int(header.lane), header.epoch, header.base_seq
    return *who, header.count, now_ns, digest, arrival.block


def _queue_learned(connection: Connection, fresh: Iterable[Arrival]) -> None:
    """For receiver/learning, which judges them later: an acknowledgement waits for nothing but the disk."""
    place = PLACES[Learned]
    rows = [
        {
            "vehicle": one.vehicle,
            "lane": int(one.header.lane),
            "epoch": one.header.epoch,
            "base_seq": one.header.base_seq,
        }
        for one in fresh
        if (one.header.lane, one.header.purpose) == place
    ]
    if rows:
        connection.execute(insert(learning_queue), rows)


def _keep_what_vehicles_say_of_themselves(connection: Connection, fresh: Iterable[Arrival], now_ns: int) -> None:
    """Once, for a block that is stored: a number of records that is told twice counts twice."""
    place = PLACES[RecordsLeft]
    assert PLACES[UpdateReport] == place
    for one in fresh:
        if (one.header.lane, one.header.purpose) == place:
            records = unpack_body(one.header, one.body)
            departed.keep(connection, one.vehicle, records)
            versions.keep(connection, one.vehicle, records, now_ns)


def _save_coverage(connection: Connection, shelves: Mapping[Place, Shelf]) -> None:
    """Only the ranges that changed: usually one a stream, which grew."""
    gone, grown = list[Values](), list[Values]()
    for place, shelf in shelves.items():
        was, now = set(shelf.before), set(shelf.stored)
        gone += [(*_key(place), first) for first, _ in was - now]
        grown += [(*_key(place), first, end) for first, end in now - was]
    _DELETE_RANGE.run(connection, *gone)
    _INSERT_RANGES.run(connection, grown)


def _quarantine(connection: Connection, arrival: Arrival, digest: bytes, reason: str, now_ns: int) -> bool:
    """Keeps the bytes and sounds the alarm, once for the same bytes. False when the vehicle's quarantine is full."""
    mine = quarantine.c.vehicle == arrival.vehicle
    if connection.execute(select(quarantine.c.id).where(mine, quarantine.c.sha256 == digest)).first() is not None:
        return True
    kept = connection.execute(select(func.count()).select_from(quarantine).where(mine)).scalar_one()
    if kept >= QUARANTINED_PER_VEHICLE:
        return False
    values = {"vehicle": arrival.vehicle, "reason": reason, "received_ns": now_ns, "sha256": digest}
    connection.execute(insert(quarantine).values(values | {"block": arrival.block}))
    journal.append(connection, now_ns, "conflict", arrival.vehicle, reason)
    return True
