"""The receiver's database: one thread, one transaction at a time, durable before anyone hears of it.

What is done in a transaction is a plain function that takes the connection first (receiver/admission.py,
receiver/inbox.py); this file knows engines, threads and errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import SingletonThreadPool

from ecu.disk import RealDisk
from ecu.errors import EnvironmentFault, UsageFault
from receiver import tables

P = ParamSpec("P")
T = TypeVar("T")

FILE = "receiver.sqlite"


class StoreError(EnvironmentFault):
    """The database couldn't do it; nothing of the transaction happened."""


class Store:
    """`await transact(act, ...)` runs `act(connection, ...)` in a transaction; when it returns, that is durable."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._engine = _engine(url)

    async def open(self) -> None:
        """Makes the tables and columns that aren't there. Raises StoreError."""
        await self.transact(_complete)

    async def transact(self, act: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises StoreError when the database fails, and what `act` raises; either way all of it is undone."""
        # Shielded: a caller that gives up must not leave the outcome of its transaction to chance.
        turn = asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._transact(act, *args, **kwargs))
        return await asyncio.shield(turn)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    def _transact(self, act: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with self._engine.begin() as connection:
                return act(connection, *args, **kwargs)
        except DBAPIError as error:
            raise StoreError(
                f"The store {self._engine.url!r} failed: {error.orig}. Check that it is up, writable and has space."
            ) from error


def _complete(connection: Connection) -> None:
    """A database of an older version lacks columns only where nothing has to stand."""
    tables.schema.create_all(connection)
    look = sqlalchemy.inspect(connection)
    for table in tables.schema.sorted_tables:
        known = {column["name"] for column in look.get_columns(table.name)}
        for column in (column for column in table.columns if column.name not in known):
            kind = column.type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}")


def sqlite_url(disk: RealDisk) -> str:
    """The embedded store of a state folder, its file made 0600."""
    if not disk.exists(FILE):
        disk.make_folder("")
        disk.create(FILE)
    return f"sqlite:///{disk.root / FILE}"


def _engine(url: str) -> Engine:
    try:
        engine = sqlalchemy.create_engine(url, **_options(url))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise UsageFault(f"[receiver] store can't be used: {error}. Give an SQLAlchemy URL and its driver.") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
    return engine


def _options(url: str) -> dict[str, Any]:
    # One thread, so one connection; "sqlite" must not open one for each transaction.
    return {"poolclass": SingletonThreadPool, "pool_size": 1} if url.startswith("sqlite") else {"pool_size": 1}


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own idea of when a transaction begins is off; ours is below.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=20000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
