"""Vehicles' quality in the database: one that keeps the release against one that hasn't had it, in pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, select, update

from ecu.clock import SECOND_NS
from receiver import versions
from receiver.rollouts import books
from receiver.rollouts.outcome import Outcome
from receiver.rollouts.quality import Bet, after
from receiver.rollouts.rules import Rules
from receiver.tables import rollout, rollout_vehicle
from receiver.times import Moment, Timeline

TOLD_EVERY_NS: Final = 86_400 * SECOND_NS
"""At least so often a vehicle says where its clock stands."""

TimelineOf = Callable[[str, int], Timeline]
"""(vehicle, since when it has to reach)"""


@dataclass(frozen=True, slots=True)
class Score:
    """What a summary tells of quality, in 0 .. 1, and when it was captured."""

    at: Moment
    score: float


def observe(
    connection: Connection, name: str, vehicle: str, scores: Sequence[Score], now_ns: int, timeline_of: TimelineOf
) -> None:
    """A vehicle's quality, told just now: of a control the newest is kept until a treated one of its stratum tells its
    own, once, and they make a pair."""
    row = connection.execute(select(rollout_vehicle).where(*_at(name, vehicle))).one_or_none()
    if row is None:
        return
    if row.before is None:
        # Who has it all the same is no control.
        has_it = versions.has_committed(connection, vehicle, books.one(connection, name).digest)
        _told(connection, row, None if has_it else _mean(scores), now_ns)
    elif row.outcome == Outcome.COMMITTED and row.quality is None:
        _pair(connection, row, scores, now_ns, timeline_of)


def _pair(
    connection: Connection, treated: Row[Any], scores: Sequence[Score], now_ns: int, timeline_of: TimelineOf
) -> None:
    """If there is a control, and any of the scores counts."""
    if (control := _control(connection, treated)) is None:
        return
    if (quality := _mean(_under_the_release(treated, scores, timeline_of))) is None:
        return
    _told(connection, treated, quality, now_ns)
    _told(connection, control, None, now_ns)
    _bet(connection, books.one(connection, treated.rollout), quality, control.quality)


def _under_the_release(row: Row[Any], scores: Sequence[Score], timeline_of: TimelineOf) -> list[Score]:
    """Those that were captured after the vehicle kept it: what waited in its spool comes after the word of that, too,
    and is about the release before."""
    if row.kept is None:
        return list(scores)
    kept = msgspec.json.decode(row.kept, type=Moment)
    timeline = timeline_of(row.vehicle, (row.listed_ns or 0) - TOLD_EVERY_NS)
    return [one for one in scores if timeline.is_later(one.at, kept)]


def _mean(scores: Sequence[Score]) -> float | None:
    return fmean(one.score for one in scores) if scores else None


def _control(connection: Connection, treated: Row[Any]) -> Row[Any] | None:
    """Of its stratum, the one that told its quality last."""
    its = rollout_vehicle.c
    untreated = its.rollout == treated.rollout, its.stratum == treated.stratum, its.before.is_(None)
    newest = select(rollout_vehicle).where(*untreated, its.quality.is_not(None))
    return connection.execute(newest.order_by(its.quality_ns.desc(), its.vehicle).limit(1)).one_or_none()


def _told(connection: Connection, row: Row[Any], quality: float | None, now_ns: int) -> None:
    values = {"quality": quality, "quality_ns": None if quality is None else now_ns}
    connection.execute(update(rollout_vehicle).where(*_at(row.rollout, row.vehicle)).values(values))


def _bet(connection: Connection, row: Row[Any], treated: float, control: float) -> None:
    rules, bet = msgspec.json.decode(row.rules, type=Rules), msgspec.json.decode(row.bet, type=Bet)
    grown = msgspec.json.encode(after(bet, treated, control, rules.quality_margin)).decode()
    connection.execute(update(rollout).where(rollout.c.name == row.name).values(bet=grown))


def _at(name: str, vehicle: str) -> tuple[Any, ...]:
    return rollout_vehicle.c.rollout == name, rollout_vehicle.c.vehicle == vehicle
