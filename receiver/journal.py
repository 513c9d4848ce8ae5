"""The audit chain in the database: appended within the transaction that it tells of."""

from __future__ import annotations

from sqlalchemy import Connection, Row, insert, select

from ecu.audit import Entry, first_break, link
from receiver.store import Store
from receiver.tables import audit

PAGE = 1000


def append(connection: Connection, wall_ns: int, event: str, subject: str = "", detail: str = "") -> Entry:
    entry = link(_last(connection), wall_ns, event, subject, detail)
    values = {name: getattr(entry, name) for name in Entry.__slots__}
    connection.execute(insert(audit).values(values))
    return entry


def tail(connection: Connection, count: int) -> list[Entry]:
    """The last `count` entries, oldest first."""
    rows = connection.execute(select(audit).order_by(audit.c.seq.desc()).limit(count)).all()
    return [_entry(row) for row in reversed(rows)]


async def broken_at(store: Store) -> int | None:
    """The seq at which the whole chain is broken, None when it holds. A page a transaction: blocks go in between."""
    last: Entry | None = None
    while entries := await store.transact(page, last.seq if last else -1):
        if (seq := first_break(entries, last)) is not None:
            return seq
        last = entries[-1]
    return None


def page(connection: Connection, after: int) -> list[Entry]:
    """The next PAGE entries after this seq."""
    rows = connection.execute(select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(PAGE)).all()
    return [_entry(row) for row in rows]


def _last(connection: Connection) -> Entry | None:
    return next(iter(tail(connection, 1)), None)


def _entry(row: Row[tuple[object, ...]]) -> Entry:
    return Entry(**row._mapping)
