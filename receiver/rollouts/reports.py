"""Stored blocks that may say something about a rollout: queued with the block, read afterwards, and let go in the
transaction that has taken what they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import msgspec
from sqlalchemy import Connection, and_, bindparam, delete, insert, select

from receiver.prepared import Prepared
from receiver.rollouts import books
from receiver.rollouts.outcome import outcome_of
from receiver.rollouts.states import LIVE
from receiver.tables import inbox, rollout, rollout_queue
from telemetry.records import PLACES, Lane, PerceptionSummary, Purpose, Stored, UpdateReport, decode_event
from telemetry.wire import BadBlock, BlockHeader, unpack_block, unpack_body

PLACES_LOOKED_AT: Final = (PLACES[UpdateReport], PLACES[PerceptionSummary])
_PLACE: Final = ("vehicle", "lane", "epoch", "base_seq")
WORDS_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class Waiting:
    """A block of the inbox, and its place in the queue."""

    place: int
    vehicle: str
    block: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """What a block says: reports, and the quality that its summaries tell of on average, in 0 .. 1."""

    vehicle: str
    reports: tuple[UpdateReport, ...]
    quality: float | None


def enqueue(connection: Connection, fresh: Iterable[tuple[str, BlockHeader]]) -> None:
    """Blocks that were just stored, by vehicle. Without a rollout under way nobody looks at them."""
    rows = [
        {"vehicle": vehicle, "lane": int(header.lane), "epoch": header.epoch, "base_seq": header.base_seq}
        for vehicle, header in fresh
        if is_looked_at(header.lane, header.purpose)
    ]
    if rows and _ANY_LIVE.rows(connection, tuple(LIVE)):
        connection.execute(insert(rollout_queue), rows)


_ANY_LIVE: Final = Prepared(
    lambda: select(rollout.c.name).where(rollout.c.state.in_([bindparam(one) for one in LIVE])), list(LIVE)
)


def is_looked_at(lane: Lane, purpose: Purpose) -> bool:
    return (lane, purpose) in PLACES_LOOKED_AT


def page(connection: Connection, most: int) -> list[Waiting]:
    """The next of the queue, in its order."""
    same = [rollout_queue.c[name] == inbox.c[name] for name in _PLACE]
    wanted = select(rollout_queue.c.id, inbox.c.vehicle, inbox.c.block).join(inbox, and_(*same))
    rows = connection.execute(wanted.order_by(rollout_queue.c.id).limit(most))
    return [Waiting(row.id, row.vehicle, row.block) for row in rows]


def read(waiting: Sequence[Waiting]) -> list[Told]:
    """What they say. Pure."""
    return [_told(one) for one in waiting]


def take(connection: Connection, waiting: Sequence[Waiting], told: Sequence[Told], now_ns: int) -> int:
    """Writes it down, once; how many reports were news."""
    places = [one.place for one in waiting]
    connection.execute(delete(rollout_queue).where(rollout_queue.c.id.in_(places)))
    names, news = books.live(connection), 0
    for one in told:
        for report in one.reports:
            outcome = outcome_of(report, report.digest)
            if outcome is not None and report.digest:
                words = report.words[:WORDS_KEPT]
                news += books.settle(connection, one.vehicle, report.digest, outcome, words, now_ns)
        if one.quality is not None:
            for name in names:
                books.observe(connection, name, one.vehicle, one.quality, now_ns)
    return news


def _told(one: Waiting) -> Told:
    try:
        records = unpack_body(*unpack_block(one.block))
    except BadBlock:
        # An older version took it, and this one doesn't read it.
        return Told(one.vehicle, (), None)
    events = [event for record in records if (event := _event(record)) is not None]
    scores = [event.mean_score for event in events if isinstance(event, PerceptionSummary) and event.tracks]
    reports = tuple(event for event in events if isinstance(event, UpdateReport))
    return Told(one.vehicle, reports, fmean(scores) if scores else None)


def _event(record: Stored) -> UpdateReport | PerceptionSummary | None:
    try:
        event = decode_event(record.event)
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, UpdateReport | PerceptionSummary) else None
