"""Judgements in the database: what is known is read, and what comes of a page of blocks is written in one transaction
that also takes the blocks off the queue. Judging itself needs no transaction, and holds none up."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from receiver import journal
from receiver.learning.judging import ADMITTED, IssuedKey, Judged, LearnedBlock, Ledger
from receiver.tables import (
    credential,
    inbox,
    learning_base,
    learning_count,
    learning_line,
    learning_queue,
    learning_update,
)
from telemetry.federated.plan import parse_plan

WAITING = 0
REPLACED = -1


class Overtaken(Exception):
    """Somebody else has judged these blocks: nothing of this was written."""


@dataclass(frozen=True, slots=True)
class Page:
    """The next blocks of the queue, in their order, and what is known about them."""

    blocks: tuple[LearnedBlock, ...]
    ledger: Ledger


def page(connection: Connection, most: int) -> Page:
    same = [learning_queue.c[name] == inbox.c[name] for name in ("vehicle", "lane", "epoch", "base_seq")]
    wanted = select(learning_queue.c.id, inbox.c.vehicle, inbox.c.received_ns, inbox.c.block)
    rows = connection.execute(wanted.join(inbox, and_(*same)).order_by(learning_queue.c.id).limit(most))
    blocks = tuple(LearnedBlock(row.id, row.vehicle, row.received_ns, row.block) for row in rows)
    return Page(blocks, _ledger(connection, sorted({block.vehicle for block in blocks})))


def write(connection: Connection, read: Page, judged: Sequence[Judged], now_ns: int) -> None:
    """Each judgement once. Raises Overtaken, and then all of it has to be undone."""
    places = [block.place for block in read.blocks]
    gone = connection.execute(delete(learning_queue).where(learning_queue.c.id.in_(places)))
    if gone.rowcount != len(places):
        raise Overtaken
    for one in judged:
        if one.update is not None:
            _take(connection, one)
    for (plan, vehicle, name), count in Counter((one.plan, one.vehicle, one.name) for one in judged).items():
        if _count(connection, plan, vehicle, name, count) and name != ADMITTED:
            # Once of each: a vehicle that is refused a thousand times doesn't fill the chain.
            words = next(one.words for one in judged if (one.plan, one.vehicle, one.name) == (plan, vehicle, name))
            journal.append(connection, now_ns, "update_refused", vehicle, words)


def _take(connection: Connection, one: Judged) -> None:
    """The one that its vehicle made last waits, whichever came last."""
    assert one.update is not None
    of_its = learning_update.c.plan == one.plan, learning_update.c.vehicle == one.vehicle
    waiting = (*of_its, learning_update.c.attempt == WAITING)
    newest = connection.execute(select(func.max(learning_update.c.seq)).where(*waiting)).scalar()
    is_newest = newest is None or one.update.seq > newest
    if is_newest:
        connection.execute(update(learning_update).where(*waiting).values(attempt=REPLACED, payload=None))
    taken = {"plan": one.plan, "vehicle": one.vehicle, "seq": one.update.seq, "base": one.update.base}
    digest = hashlib.sha256(one.update.payload).hexdigest()
    kept = {"attempt": WAITING, "payload": one.update.payload} if is_newest else {"attempt": REPLACED, "payload": None}
    connection.execute(insert(learning_update).values(taken | {"sha256": digest} | kept))


def _count(connection: Connection, plan: str, vehicle: str, name: str, count: int) -> bool:
    """Whether it is the first of its name."""
    key = {"plan": plan, "vehicle": vehicle, "name": name}
    mine = [learning_count.c[column] == value for column, value in key.items()]
    grown = update(learning_count).where(*mine).values(times=learning_count.c.times + count)
    if connection.execute(grown).rowcount:
        return False
    connection.execute(insert(learning_count).values(key | {"times": count}))
    return True


def _ledger(connection: Connection, vehicles: Sequence[str]) -> Ledger:
    lines = connection.execute(select(learning_line.c.plan, learning_line.c.document))
    plans = {row.plan: parse_plan(row.document.encode()) for row in lines}
    bases: dict[str, dict[str, int]] = {}
    for row in connection.execute(select(learning_base).order_by(learning_base.c.number)):
        bases.setdefault(row.plan, {})[row.digest] = row.number
    sent: dict[tuple[str, str], frozenset[int]] = {}
    seqs = select(learning_update.c.plan, learning_update.c.vehicle, learning_update.c.seq)
    for row in connection.execute(seqs.where(learning_update.c.vehicle.in_(vehicles))):
        key = row.plan, row.vehicle
        sent[key] = sent.get(key, frozenset()) | {row.seq}
    return Ledger(plans, bases, sent, {vehicle: keys_of(connection, vehicle) for vehicle in vehicles})


def keys_of(connection: Connection, vehicle: str) -> tuple[IssuedKey, ...]:
    """Those that its certificates were issued for, the newest first."""
    mine = credential.c.vehicle == vehicle, credential.c.public_key.is_not(None)
    rows = connection.execute(select(credential).where(*mine).order_by(credential.c.issued_ns.desc()))
    return tuple(
        IssuedKey(row.public_key, row.not_after_ns if row.revoked_ns is None else min(row.not_after_ns, row.revoked_ns))
        for row in rows
    )
