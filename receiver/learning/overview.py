"""What the database says of learning, for an operator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select

from inference.verdict import Outcome
from receiver.learning.answers import AttemptLine, LearningStatus, PlanLine, PlanStatus
from receiver.learning.books import WAITING
from receiver.learning.lines import candidate_name, waiting_of
from receiver.learning.order import Told
from receiver.tables import (
    learning_attempt,
    learning_base,
    learning_count,
    learning_line,
    learning_queue,
    learning_update,
)

ATTEMPTS_SHOWN = 20


def plans(connection: Connection) -> list[PlanLine]:
    """By name."""
    named = select(learning_line.c.plan, learning_line.c.package, learning_line.c.begun_ns)
    rows = connection.execute(named.order_by(learning_line.c.plan)).all()
    return [_line(connection, row.plan, row.package, row.begun_ns) for row in rows]


def status(connection: Connection, candidates: Path, buffer: int, held_up: Mapping[str, str]) -> LearningStatus:
    queued = connection.execute(select(func.count()).select_from(learning_queue)).scalar_one()
    shown = [_status(connection, line, candidates, buffer, held_up.get(line.plan, "")) for line in plans(connection)]
    return LearningStatus(shown, _counts(connection, ""), int(queued))


def _line(connection: Connection, plan: str, package: str, begun_ns: int) -> PlanLine:
    bases = select(learning_base.c.number, learning_base.c.digest).where(learning_base.c.plan == plan)
    number, digest = connection.execute(bases.order_by(learning_base.c.number.desc()).limit(1)).one()
    return PlanLine(plan, package, begun_ns, digest, number, waiting_of(connection, plan))


def _status(connection: Connection, line: PlanLine, candidates: Path, buffer: int, held_up: str) -> PlanStatus:
    vehicles = _counts(connection, line.plan)
    counts: dict[str, int] = {}
    for named in vehicles.values():
        for name, count in named.items():
            counts[name] = counts.get(name, 0) + count
    waits = _vehicles(connection, line.plan, WAITING)
    attempts = _attempts(connection, line.plan, candidates)
    return PlanStatus(line, buffer, counts, vehicles, waits, held_up, attempts)


def _attempts(connection: Connection, plan: str, candidates: Path) -> list[AttemptLine]:
    """The newest, oldest first."""
    title = connection.execute(select(learning_line.c.title).where(learning_line.c.plan == plan)).scalar_one()
    wanted = select(learning_attempt).where(learning_attempt.c.plan == plan)
    rows = connection.execute(wanted.order_by(learning_attempt.c.attempt.desc()).limit(ATTEMPTS_SHOWN)).all()
    return [_attempt(connection, row, candidates / candidate_name(title, row.version)) for row in reversed(rows)]


def _attempt(connection: Connection, row: Row[Any], folder: Path) -> AttemptLine:
    is_there = row.outcome == Outcome.PASSED and row.files is None
    return AttemptLine(
        attempt=row.attempt,
        version=row.version,
        began_ns=row.began_ns,
        ended_ns=row.ended_ns,
        outcome=row.outcome or "",
        words=msgspec.json.decode(row.verdict, type=Told).words if row.verdict else "",
        candidate=str(folder) if is_there else "",
        vehicles=_vehicles(connection, row.plan, row.attempt),
        verdict=msgspec.Raw(row.verdict or b"null"),
    )


def _vehicles(connection: Connection, plan: str, attempt: int) -> list[str]:
    mine = learning_update.c.plan == plan, learning_update.c.attempt == attempt
    return sorted(connection.execute(select(learning_update.c.vehicle).where(*mine)).scalars())


def _counts(connection: Connection, plan: str) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    rows = connection.execute(select(learning_count).where(learning_count.c.plan == plan))
    for row in sorted(rows, key=lambda row: (row.vehicle, row.name)):
        counts.setdefault(row.vehicle, {})[row.name] = row.times
    return counts
