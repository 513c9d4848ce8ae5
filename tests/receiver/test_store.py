"""The store's own laws: a database of an older version is completed, and what stood in it stays."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection

from ecu.disk import RealDisk
from receiver import tables
from receiver.store import Store, sqlite_url


def _rows(connection: Connection) -> list[tuple[object, ...]]:
    found = connection.execute(sqlalchemy.select(tables.credential.c.serial, tables.credential.c.public_key))
    return [tuple(row) for row in found]


async def test_a_column_that_an_older_version_hadnt_is_added_and_the_rows_stay(tmp_path: Path) -> None:
    url = sqlite_url(RealDisk(tmp_path))
    store = Store(url)
    await store.open()
    await store.close()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as older:
        older.exec_driver_sql("ALTER TABLE credential DROP COLUMN public_key")
        older.exec_driver_sql("DROP TABLE learning_queue")
        older.exec_driver_sql("INSERT INTO vehicle (id, enrolled_ns) VALUES ('veh-001', 1)")
        older.exec_driver_sql(
            "INSERT INTO credential (serial, vehicle, issued_ns, not_after_ns) VALUES ('a', 'veh-001', 1, 2)"
        )
    engine.dispose()
    for _ in range(2):
        store = Store(url)
        await store.open()
        assert await store.transact(_rows) == [("a", None)]
        await store.close()
