"""Laws of group commit: an answer and a receipt come after the commit, and what can't be kept is said."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from receiver.counters import Counters
from receiver.inbox import Outcome
from receiver.ingest import Ingest, IngestLimits
from receiver.quota import Quota
from receiver.store import FILE, Store, sqlite_url
from telemetry.records import Lane
from telemetry.wire import Receipt
from tests.receiver.fleet import EPOCH, VEHICLE, cost_of, make_block
from tests.receiver.test_inbox import a_store


class Bench:
    """An ingest on a real store; receipts are noted with whether their rows could be seen from outside by then."""

    def __init__(self, store: Store, folder: Path, limits: IngestLimits, burst: float) -> None:
        self.counters = Counters()
        self.receipts: list[tuple[Receipt, bool]] = []
        self._file = folder / FILE
        quota = Quota(1e-9, burst)
        self.ingest = Ingest(store, SystemClock(), quota, limits, self.counters, self._on_receipt)

    def _on_receipt(self, vehicle: str, receipt: Receipt) -> None:
        assert vehicle == VEHICLE
        stored = {n for base, count in self.rows() for n in range(base, base + count)}
        told = {n for start, end in receipt.ranges for n in range(start, end)}
        self.receipts.append((receipt, told <= stored))

    def rows(self) -> list[tuple[int, int]]:
        with contextlib.closing(sqlite3.connect(self._file)) as outside:
            return outside.execute("select base_seq, count from inbox").fetchall()


@contextlib.asynccontextmanager
async def a_bench(
    folder: Path, limits: IngestLimits | None = None, burst: float = 1e9
) -> AsyncIterator[tuple[Bench, asyncio.Task[None]]]:
    async with a_store(folder) as store:
        bench = Bench(store, folder, limits or IngestLimits(), burst)
        loop = asyncio.create_task(bench.ingest.run())
        try:
            yield bench, loop
        finally:
            loop.cancel()
            await asyncio.wait([loop])


async def test_answers_and_receipts_come_when_another_process_can_see_the_rows(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as (bench, _):
        answers = [bench.ingest.submit(VEHICLE, Lane.P1, make_block(3 * n)) for n in range(50)]
        assert {(await answer).outcome for answer in answers} == {Outcome.STORED}
        await asyncio.sleep(0)
        assert len(bench.rows()) == 50
        assert bench.receipts
        assert all(visible for _, visible in bench.receipts)
        told = {n for receipt, _ in bench.receipts for start, end in receipt.ranges for n in range(start, end)}
        assert told == set(range(150))


async def test_many_blocks_share_a_commit(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as (bench, _):
        await asyncio.gather(*(bench.ingest.submit(VEHICLE, Lane.P1, make_block(3 * n)) for n in range(100)))
        assert bench.counters.commits <= 2
        assert bench.counters.blocks_stored == 100


async def test_nothing_is_answered_while_the_disk_can_not_commit(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as (bench, _):
        with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as holder:
            holder.execute("begin immediate")
            answer = bench.ingest.submit(VEHICLE, Lane.P1, make_block())
            # What is refused without the store is answered in the meantime.
            assert (await bench.ingest.submit(VEHICLE, Lane.P1, b"junk")).outcome is Outcome.BAD
            assert not answer.done()
            assert bench.receipts == []
            holder.execute("rollback")
        assert (await answer).outcome is Outcome.STORED


async def test_a_failing_store_asks_for_patience_and_the_next_commit_works(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as (bench, _):
        with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as vandal:
            vandal.execute("alter table inbox rename to elsewhere")
            assert (await bench.ingest.submit(VEHICLE, Lane.P1, make_block())).outcome is Outcome.THROTTLED
            vandal.execute("alter table elsewhere rename to inbox")
        assert (await bench.ingest.submit(VEHICLE, Lane.P1, make_block())).outcome is Outcome.STORED
        assert (bench.counters.store_failures, len(bench.rows())) == (1, 1)


@pytest.mark.parametrize("limits", [IngestLimits(queue_blocks=4), IngestLimits(queue_bytes=4 * len(make_block()))])
async def test_the_queue_is_bounded_and_counts_what_it_turns_away(tmp_path: Path, limits: IngestLimits) -> None:
    async with a_bench(tmp_path, limits) as (bench, _):
        answers = [bench.ingest.submit(VEHICLE, Lane.P1, make_block(3 * n)) for n in range(10)]
        found = [(await answer).outcome for answer in answers]
        assert found == [Outcome.STORED] * 4 + [Outcome.THROTTLED] * 6
        assert (bench.counters.blocks_stored, bench.counters.blocks_throttled) == (4, 6)


async def test_one_vehicle_can_not_use_the_share_of_another(tmp_path: Path) -> None:
    block = make_block()
    async with a_bench(tmp_path, burst=2.5 * cost_of(block)) as (bench, _):
        answers = [bench.ingest.submit(VEHICLE, Lane.P1, make_block(3 * n)) for n in range(3)]
        assert [(await a).outcome for a in answers] == [Outcome.STORED, Outcome.STORED, Outcome.THROTTLED]


async def test_what_inflates_is_charged_by_what_it_becomes(tmp_path: Path) -> None:
    bombs = [make_block(n, 1, note="x" * 100_000) for n in range(3)]
    assert len(bombs[0]) < 1000
    async with a_bench(tmp_path, burst=250_000) as (bench, _):
        answers = [bench.ingest.submit(VEHICLE, Lane.P1, bomb) for bomb in bombs]
        assert [(await a).outcome for a in answers] == [Outcome.STORED, Outcome.STORED, Outcome.THROTTLED]


async def test_an_answer_is_given_once_whether_at_once_or_after_the_commit(tmp_path: Path) -> None:
    heard: list[Outcome] = []
    async with a_bench(tmp_path) as (bench, _):
        bench.ingest.offer(VEHICLE, Lane.P1, make_block(), lambda verdict: heard.append(verdict.outcome))
        bench.ingest.offer(VEHICLE, Lane.P1, b"junk", lambda verdict: heard.append(verdict.outcome))
        assert heard == [Outcome.BAD]
        assert (await bench.ingest.submit(VEHICLE, Lane.P1, make_block(3))).outcome is Outcome.STORED
        assert heard == [Outcome.BAD, Outcome.STORED]


async def test_a_block_in_another_lanes_topic_is_bad(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as (bench, _):
        verdict = await bench.ingest.submit(VEHICLE, Lane.P0, make_block(lane=Lane.P1))
        assert (verdict.outcome, verdict.words) == (Outcome.BAD, "a block of P1 came as P0")


async def test_an_answer_nobody_waits_for_any_more_stops_nothing(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as (bench, loop):
        bench.ingest.submit(VEHICLE, Lane.P1, make_block()).cancel()
        assert (await bench.ingest.submit(VEHICLE, Lane.P1, make_block(3))).outcome is Outcome.STORED
        assert not loop.done()
        await asyncio.sleep(0)
        assert EPOCH in {receipt.epoch for receipt, _ in bench.receipts}


def test_the_stores_file_is_its_owners_alone(tmp_path: Path) -> None:
    sqlite_url(RealDisk(tmp_path))
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
