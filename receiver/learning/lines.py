"""A plan's line of models in the database, step by step; each function is one transaction's, and a kill between two
changes nothing of what comes of it:

    begin -> (updates are judged: books.py) -> claim -> [work.make, anywhere, as often as needed] -> settle -> shelved

A claim fixes which updates are aggregated, so that the work gives the same however often it is begun. Only an aggregate
that passed moves the line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from ecu.errors import OutriderError, shown
from inference.verdict import Outcome
from receiver import journal
from receiver.learning.books import WAITING
from receiver.learning.order import Made, Order, Surface, Taken, Told, raw, vector
from receiver.tables import learning_attempt, learning_base, learning_line, learning_update
from telemetry.federated.line import begin_line
from telemetry.federated.plan import Plan, encode_plan, parse_plan

VEHICLES_NAMED = 20
"""In an entry of the audit; verdict.json names all."""


class LearningRefused(OutriderError):
    """The operator asked for what can't be done now. The message says why."""


class Shelved(msgspec.Struct, frozen=True):
    """A candidate that passed and has to be put into its folder."""

    plan: str
    attempt: int
    name: str
    told: bytes
    files: dict[str, bytes]


def begin(connection: Connection, plan: Plan, surface: Surface, package: str, crops: str, now_ns: int) -> None:
    """Raises LearningRefused for a plan that was begun before: its updates would count again."""
    if _line_exists(connection, plan.name):
        raise LearningRefused(f"Plan {plan.name} was begun before. Give the new one a name of its own.")
    line = begin_line(plan, vector(surface.parameters))
    row = {"plan": plan.name, "document": encode_plan(plan).decode(), "title": surface.title}
    places = {"package": package, "crops": crops, "begun_ns": now_ns}
    vectors = {"parameters": raw(line.parameters), "velocity": raw(line.velocity)}
    connection.execute(insert(learning_line).values(row | places | vectors))
    connection.execute(insert(learning_base).values(plan=plan.name, number=0, digest=plan.base))
    journal.append(connection, now_ns, "learning_begun", "", f"plan {plan.name} at {surface.title}, {plan.base[:12]}")


def claim(connection: Connection, plan: str, at_least: int, now_ns: int) -> int:
    """Closes the buffer: its updates belong to a new attempt, whose number is given. Raises LearningRefused where so
    many don't wait, or an attempt is under way."""
    title = connection.execute(select(learning_line.c.title).where(learning_line.c.plan == plan)).scalar_one_or_none()
    if title is None:
        raise LearningRefused(f"There is no plan {shown(plan[:48])!r} here. `outrider receiver learn list` has all.")
    if (working := _working(connection, plan)) is not None:
        raise LearningRefused(f"Attempt {working} of plan {plan} is being worked on. Wait for its verdict.")
    waiting = waiting_of(connection, plan)
    if waiting < max(at_least, 1):
        raise LearningRefused(f"{waiting} vehicles of plan {plan} wait, {max(at_least, 1)} are needed.")
    attempt = last_attempt(connection, plan) + 1
    version = next_version(title, _versions(connection, title))
    row = {"plan": plan, "attempt": attempt, "version": version, "began_ns": now_ns}
    connection.execute(insert(learning_attempt).values(row))
    mine = learning_update.c.plan == plan, learning_update.c.attempt == WAITING
    connection.execute(update(learning_update).where(*mine).values(attempt=attempt))
    journal.append(connection, now_ns, "learning_claimed", "", f"attempt {attempt} of plan {plan}, {waiting} vehicles")
    return attempt


def last_attempt(connection: Connection, plan: str) -> int:
    """0 before the first."""
    last = select(func.max(learning_attempt.c.attempt)).where(learning_attempt.c.plan == plan)
    return connection.execute(last).scalar_one() or 0


def due(connection: Connection, buffer: int) -> list[str]:
    """Plans whose buffer is full, and no attempt of theirs is under way."""
    counted = select(learning_update.c.plan).where(learning_update.c.attempt == WAITING)
    full = connection.execute(counted.group_by(learning_update.c.plan).having(func.count() >= buffer))
    return sorted(plan for (plan,) in full if _working(connection, plan) is None)


def unfinished(connection: Connection) -> list[str]:
    """Plans with an attempt that has no verdict yet."""
    rows = connection.execute(select(learning_attempt.c.plan).where(learning_attempt.c.outcome.is_(None)))
    return sorted(plan for (plan,) in rows)


def order_of(connection: Connection, plan: str) -> Order:
    """Of the plan's unfinished attempt."""
    line = connection.execute(select(learning_line).where(learning_line.c.plan == plan)).one()
    mine = learning_attempt.c.plan == plan, learning_attempt.c.outcome.is_(None)
    attempt = connection.execute(select(learning_attempt.c.attempt, learning_attempt.c.version).where(*mine)).one()
    bases = connection.execute(
        select(learning_base).where(learning_base.c.plan == plan).order_by(learning_base.c.number)
    )
    numbers = {row.digest: row.number for row in bases}
    newest = max(numbers.values())
    taken = learning_update.c.plan == plan, learning_update.c.attempt == attempt.attempt
    updates = connection.execute(select(learning_update).where(*taken).order_by(learning_update.c.vehicle))
    return Order(
        plan=parse_plan(line.document.encode()),
        attempt=attempt.attempt,
        version=attempt.version,
        number=newest + 1,
        package=line.package,
        crops=line.crops,
        parameters=line.parameters,
        velocity=line.velocity,
        updates=tuple(
            Taken(row.vehicle, row.seq, row.payload, row.sha256, newest - numbers[row.base]) for row in updates
        ),
    )


def settle(connection: Connection, order: Order, made: Made, now_ns: int) -> None:
    """The verdict is kept; where it is PASSED, the line moves on and the candidate waits for its folder; otherwise the
    line stays as it was. The updates are used up either way."""
    plan, told = order.plan.name, made.told
    mine = learning_attempt.c.plan == plan, learning_attempt.c.attempt == order.attempt
    files = msgspec.msgpack.encode(made.files) if made.passed else None
    ended = {"ended_ns": now_ns, "outcome": told.outcome, "verdict": msgspec.json.encode(told), "files": files}
    connection.execute(update(learning_attempt).where(*mine).values(ended))
    used = learning_update.c.plan == plan, learning_update.c.attempt == order.attempt
    connection.execute(update(learning_update).where(*used).values(payload=None))
    if made.passed:
        moved = {"parameters": made.parameters, "velocity": made.velocity}
        connection.execute(update(learning_line).where(learning_line.c.plan == plan).values(moved))
        connection.execute(insert(learning_base).values(plan=plan, number=told.number, digest=made.digest))
    journal.append(connection, now_ns, f"learning_{told.outcome}", "", _entry(order, told))


def shelved(connection: Connection, but: Collection[str] = ()) -> Shelved | None:
    """A candidate that isn't in its folder yet, of any plan `but` these."""
    waits = learning_attempt.c.files.is_not(None), learning_attempt.c.plan.not_in(but)
    row = connection.execute(select(learning_attempt).where(*waits).order_by(learning_attempt.c.began_ns)).first()
    if row is None:
        return None
    title = connection.execute(select(learning_line.c.title).where(learning_line.c.plan == row.plan)).scalar_one()
    files = msgspec.msgpack.decode(row.files, type=dict[str, bytes])
    return Shelved(row.plan, row.attempt, candidate_name(title, row.version), row.verdict, files)


def put(connection: Connection, candidate: Shelved) -> None:
    """It is in its folder, durably."""
    mine = learning_attempt.c.plan == candidate.plan, learning_attempt.c.attempt == candidate.attempt
    connection.execute(update(learning_attempt).where(*mine).values(files=None))


def waiting_of(connection: Connection, plan: str) -> int:
    """Vehicles."""
    mine = learning_update.c.plan == plan, learning_update.c.attempt == WAITING
    return int(connection.execute(select(func.count()).select_from(learning_update).where(*mine)).scalar_one())


def candidate_name(title: str, version: str) -> str:
    """The folder of a candidate of the package `title`."""
    return f"{title.partition('@')[0]}-{version}"


def next_version(title: str, taken: Iterable[str]) -> str:
    """The third number counts candidates of one version: 1.0 and 1.0.3 are followed by 1.0.1 and 1.0.4."""
    major, minor, *patch = title.partition("@")[2].split(".")
    begun = f"{major}.{minor}."
    thirds = [int(version.removeprefix(begun)) for version in taken if version.startswith(begun)]
    return begun + str(1 + max([int(part) for part in patch] + thirds, default=0))


def _versions(connection: Connection, title: str) -> Sequence[str]:
    """Of all candidates of that name, whichever plan made them."""
    name = title.partition("@")[0]
    joined = learning_attempt.join(learning_line, learning_attempt.c.plan == learning_line.c.plan)
    known = learning_attempt.c.outcome.is_(None) | (learning_attempt.c.outcome == Outcome.PASSED)
    rows = connection.execute(
        select(learning_attempt.c.version, learning_line.c.title).select_from(joined).where(known)
    )
    return [row.version for row in rows if row.title.partition("@")[0] == name]


def _line_exists(connection: Connection, plan: str) -> bool:
    return connection.execute(select(learning_line.c.plan).where(learning_line.c.plan == plan)).first() is not None


def _working(connection: Connection, plan: str) -> int | None:
    mine = learning_attempt.c.plan == plan, learning_attempt.c.outcome.is_(None)
    return connection.execute(select(learning_attempt.c.attempt).where(*mine)).scalar_one_or_none()


def _entry(order: Order, told: Told) -> str:
    vehicles = sorted(told.updates)
    more = f" and {len(vehicles) - VEHICLES_NAMED} more" if len(vehicles) > VEHICLES_NAMED else ""
    who = ", ".join(vehicles[:VEHICLES_NAMED]) + more
    return f"attempt {order.attempt} of plan {told.plan}: {told.words} Of {who}."
