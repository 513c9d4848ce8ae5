"""Stores that make batches of small records durable: ours and its peers, each as a writer would set it up."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from telemetry.records import Lane, Purpose, RecordBatch, SignalBlock
from telemetry.spool import Spool, SpoolLimits
from telemetry.spool.counts import MemoryCounters
from telemetry.wire import Receipt

LIMITS: Final = SpoolLimits(queue_records=1_000_000, queue_bytes=256 * 1024 * 1024)
_MAP_BYTES: Final = 1 << 30


class Store(Protocol):
    """`commit` returns when all the records are durable."""

    def commit(self, payloads: Sequence[bytes]) -> None: ...

    def close(self) -> None: ...


class SpoolStore:
    """Encrypts, and frees what it has: every block is acknowledged by `drain`, as a receiver would, outside of it."""

    def __init__(self, folder: Path, limits: SpoolLimits = LIMITS) -> None:
        disk = RealDisk(folder / "spool")
        self.spool = Spool.open(disk, MemoryKeyStore(), SystemClock(), os.urandom, limits, MemoryCounters())

    def commit(self, payloads: Sequence[bytes]) -> None:
        self.commit_batch(batch_of(payloads))

    def commit_batch(self, batch: RecordBatch) -> None:
        taken = self.spool.offer_many(batch, batch.captured_ns[0])
        due = self.spool.take(0, everything=True)
        assert due is not None
        self.spool.settle(self.spool.write(due, witnessed=False))
        assert taken == len(batch.events)

    def drain(self) -> None:
        while (ref := self.spool.next_unsent(Lane.P2, None)) is not None:
            self.spool.mark_sent(ref)
            self.spool.acknowledge(Receipt(ref.lane, ref.epoch, ((ref.base_seq, ref.end_seq),)))

    def close(self) -> None:
        self.spool.close()


def batch_of(payloads: Sequence[bytes]) -> RecordBatch:
    """What was sampled together has one stamp."""
    stamp = SystemClock().boot_ns()
    return RecordBatch(
        Lane.P2, Purpose.DRIVING, [stamp] * len(payloads), [SignalBlock("bench", 1, payload) for payload in payloads]
    )


class SqliteStore:
    """WAL, synchronous=FULL: a commit is in the log, synced."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "records.db")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS records (seq INTEGER PRIMARY KEY, payload BLOB)")

    def commit(self, payloads: Sequence[bytes]) -> None:
        with self._db:
            self._db.executemany("INSERT INTO records (payload) VALUES (?)", [(payload,) for payload in payloads])

    def close(self) -> None:
        self._db.close()


class LmdbStore:
    """Appends, one transaction a commit, synced."""

    def __init__(self, folder: Path) -> None:
        self._env: Any = importlib.import_module("lmdb").open(str(folder), map_size=_MAP_BYTES)
        self._next = 0

    def commit(self, payloads: Sequence[bytes]) -> None:
        with self._env.begin(write=True) as transaction:
            for seq, payload in enumerate(payloads, self._next):
                transaction.put(seq.to_bytes(8, "big"), payload, append=True)
        self._next += len(payloads)

    def close(self) -> None:
        self._env.close()


class RocksStore:
    """One batch a commit, its log synced."""

    def __init__(self, folder: Path) -> None:
        self._rocks: Any = importlib.import_module("rocksdict")
        self._db = self._rocks.Rdict(str(folder / "rocks"), self._rocks.Options(raw_mode=True))
        self._how = self._rocks.WriteOptions()
        self._how.sync = True
        self._next = 0

    def commit(self, payloads: Sequence[bytes]) -> None:
        batch = self._rocks.WriteBatch(raw_mode=True)
        for seq, payload in enumerate(payloads, self._next):
            batch.put(seq.to_bytes(8, "big"), payload)
        self._db.write(batch, write_opt=self._how)
        self._next += len(payloads)

    def close(self) -> None:
        self._db.close()


STORES: Final[Mapping[str, Callable[[Path], Store]]] = {
    "spool": SpoolStore,
    "SQLite": SqliteStore,
    "LMDB": LmdbStore,
    "RocksDB": RocksStore,
}
_PACKAGES: Final = {"LMDB": "lmdb", "RocksDB": "rocksdict"}


def missing(store: str) -> str | None:
    """The package to install before that store can be measured."""
    package = _PACKAGES.get(store)
    return package if package is not None and importlib.util.find_spec(package) is None else None
