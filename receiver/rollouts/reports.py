"""Stored blocks that may say something about a rollout: queued with the block, read afterwards, and let go in the
transaction that has taken what they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import msgspec
import structlog
from sqlalchemy import BigInteger, Connection, Executable, and_, bindparam, delete, insert, or_, select
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from receiver import versions
from receiver.prepared import Prepared
from receiver.rollouts import books, pairs
from receiver.rollouts.hardware import rehome
from receiver.rollouts.outcome import is_lost_again, outcome_of
from receiver.rollouts.pairs import Score, TimelineOf
from receiver.rollouts.states import ENDED, LIVE
from receiver.tables import inbox, rollout, rollout_queue
from receiver.times import Moment, read_timeline
from telemetry.records import PLACES, Lane, PerceptionSummary, Purpose, Stored, UpdateReport, decode_event
from telemetry.wire import BadBlock, BlockHeader, unpack_block, unpack_body

PLACES_LOOKED_AT: Final = (PLACES[UpdateReport], PLACES[PerceptionSummary])
_PLACE: Final = ("vehicle", "lane", "epoch", "base_seq")
WORDS_KEPT: Final = 200
_OUT_OF_ORDER: Final = (OperationalError, InterfaceError, InternalError)
"""The database's own errors: whatever is done in it then fails."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A block of the inbox, and its place in the queue."""

    place: int
    vehicle: str
    block: bytes
    received_ns: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a block says: reports and when they were captured, and what its summaries tell of quality. `is_read`:
    reading it didn't fail in a way that nobody thought of."""

    vehicle: str
    received_ns: int
    reports: tuple[tuple[Moment, UpdateReport], ...] = ()
    scores: tuple[Score, ...] = ()
    is_read: bool = True


@dataclass(frozen=True, slots=True)
class Taken:
    """Reports that were news; those that say of a release that it is kept, which their vehicle's signed manifest
    doesn't vouch for; and blocks that a fault of ours lost to the rollouts."""

    news: int = 0
    unproven: int = 0
    faults: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.news + other.news, self.unproven + other.unproven, self.faults + other.faults)


def enqueue(connection: Connection, fresh: Iterable[tuple[str, BlockHeader]], now_ns: int) -> None:
    """Blocks that were just stored, by vehicle. Without a rollout under way, or ended not long ago, nobody looks at
    them."""
    rows = [
        {"vehicle": vehicle, "lane": int(header.lane), "epoch": header.epoch, "base_seq": header.base_seq}
        for vehicle, header in fresh
        if is_looked_at(header.lane, header.purpose)
    ]
    if rows and _ANY_HEEDED.rows(connection, (now_ns - books.WATCHED_NS,)):
        connection.execute(insert(rollout_queue), rows)


def _select_heeded() -> Executable:
    its = rollout.c
    ended = or_(*(its.state == one for one in ENDED)) & (its.done_ns > bindparam("since_ns", type_=BigInteger))
    return select(its.name).where(or_(*(its.state == one for one in LIVE), ended)).limit(1)


_ANY_HEEDED: Final = Prepared(_select_heeded, ["since_ns"])


def is_looked_at(lane: Lane, purpose: Purpose) -> bool:
    return (lane, purpose) in PLACES_LOOKED_AT


def page(connection: Connection, most: int) -> list[Waiting]:
    """The next of the queue, in its order."""
    same = [rollout_queue.c[name] == inbox.c[name] for name in _PLACE]
    wanted = select(rollout_queue.c.id, inbox.c.vehicle, inbox.c.block, inbox.c.received_ns).join(inbox, and_(*same))
    rows = connection.execute(wanted.order_by(rollout_queue.c.id).limit(most))
    return [Waiting(row.id, row.vehicle, row.block, row.received_ns) for row in rows]


def read(waiting: Sequence[Waiting]) -> list[Told]:
    """What they say. Pure."""
    return [_read(one) for one in waiting]


def _read(one: Waiting) -> Told:
    try:
        return _told(one)
    except Exception:
        # A vehicle chose these bytes: whatever they find in us must cost nobody else a halt.
        log.exception("rollout_block_fault", vehicle=one.vehicle)
        return Told(one.vehicle, one.received_ns, is_read=False)


def take(connection: Connection, waiting: Sequence[Waiting], told: Sequence[Told], now_ns: int) -> Taken:
    """Writes it down, once."""
    places = [one.place for one in waiting]
    connection.execute(delete(rollout_queue).where(rollout_queue.c.id.in_(places)))
    names = books.live(connection)
    for name in (*names, *books.watched(connection, now_ns)) if any(one.reports for one in told) else ():
        # Before what they did is: on other hardware a release doesn't fail, it isn't for it.
        rehome(connection, name)
    # A page may hold many blocks of a vehicle that was away for long.
    timeline_of = lru_cache(None)(partial(read_timeline, connection))
    return sum((_take_alone(connection, one, names, now_ns, timeline_of) for one in told), Taken())


def _take_alone(
    connection: Connection, told: Told, names: Sequence[str], now_ns: int, timeline_of: TimelineOf
) -> Taken:
    """One block's, or nothing of it: a fault in it costs no other its word."""
    try:
        with connection.begin_nested():
            return _take(connection, told, names, now_ns, timeline_of)
    except _OUT_OF_ORDER:
        raise
    except Exception:
        log.exception("rollout_block_fault", vehicle=told.vehicle)
        return Taken(faults=1)


def _take(connection: Connection, told: Told, names: Sequence[str], now_ns: int, timeline_of: TimelineOf) -> Taken:
    news = unproven = 0
    for at, report in told.reports:
        is_new, is_proven = _settle(connection, told, at, report, now_ns)
        news, unproven = news + is_new, unproven + (not is_proven)
    for name in names if told.scores else ():
        pairs.observe(connection, name, told.vehicle, told.scores, now_ns, timeline_of)
    return Taken(news, unproven, not told.is_read)


def _settle(connection: Connection, told: Told, at: Moment, report: UpdateReport, now_ns: int) -> tuple[bool, bool]:
    """Whether it was news, and whether nothing is wanting to believe it."""
    if not report.digest:
        return False, True

    def is_vouched_for() -> bool:
        return versions.is_vouched_for(connection, told.vehicle, report.digest, report.manifest, told.received_ns)

    outcome = outcome_of(report, report.digest, is_vouched_for)
    if outcome is None:
        return False, report.what != "committed"
    said = books.Said(outcome, report.words[:WORDS_KEPT], at, is_lost_again(report))
    return books.settle(connection, told.vehicle, report.digest, said, now_ns), True


def _told(one: Waiting) -> Told:
    try:
        header, body = unpack_block(one.block)
        records = unpack_body(header, body)
    except BadBlock:
        # An older version took it, and this one doesn't read it.
        return Told(one.vehicle, one.received_ns)
    reports, scores = list[tuple[Moment, UpdateReport]](), list[Score]()
    for record in records:
        at = Moment(header.lane, header.epoch, record.captured_ns, record.wall_ns)
        match _event(record):
            case UpdateReport() as report:
                reports.append((at, report))
            case PerceptionSummary() as summary if _tells(summary):
                scores.append(Score(at, summary.mean_score))
            case _:
                pass
    return Told(one.vehicle, one.received_ns, tuple(reports), tuple(scores))


def _tells(summary: PerceptionSummary) -> bool:
    """What isn't a score, NaN and infinity among it, says nothing of quality."""
    return summary.tracks > 0 and 0.0 <= summary.mean_score <= 1.0


def _event(record: Stored) -> UpdateReport | PerceptionSummary | None:
    try:
        event = decode_event(record.event)
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, UpdateReport | PerceptionSummary) else None
