"""The audit chain in the database: appended within the transaction that it tells of."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Row, insert, select

from receiver.audit import Entry, first_break, link
from receiver.tables import audit

_PAGE = 1000


def append(connection: Connection, wall_ns: int, event: str, subject: str = "", detail: str = "") -> Entry:
    entry = link(_last(connection), wall_ns, event, subject, detail)
    values = {name: getattr(entry, name) for name in Entry.__slots__}
    connection.execute(insert(audit).values(values))
    return entry


def tail(connection: Connection, count: int) -> list[Entry]:
    """The last `count` entries, oldest first."""
    rows = connection.execute(select(audit).order_by(audit.c.seq.desc()).limit(count)).all()
    return [_entry(row) for row in reversed(rows)]


def broken_at(connection: Connection) -> int | None:
    """The seq at which the whole chain is broken, None when it holds."""
    return first_break(_all(connection))


def _all(connection: Connection) -> Iterator[Entry]:
    after = -1
    while rows := connection.execute(select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(_PAGE)).all():
        yield from map(_entry, rows)
        after = rows[-1].seq


def _last(connection: Connection) -> Entry | None:
    return next(iter(tail(connection, 1)), None)


def _entry(row: Row[tuple[object, ...]]) -> Entry:
    return Entry(**row._mapping)
