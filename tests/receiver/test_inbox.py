"""Laws of the inbox: every record is stored once, the same block again changes nothing, and other bytes never win."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Connection, func, select, text

from ecu.disk import RealDisk
from receiver import admission, inbox, journal
from receiver.inbox import QUARANTINED_PER_VEHICLE, Arrival, Outcome, Place, Shelf
from receiver.ingest import receipts
from receiver.store import Store, StoreError, sqlite_url
from receiver.tables import coverage, quarantine, schema
from receiver.tables import inbox as inbox_table
from telemetry.dictionaries import NEWEST_DICTIONARY
from telemetry.records import Lane, Purpose
from telemetry.spool.intervals import IntervalSet
from telemetry.wire import BlockHeader, pack_block, unpack_block
from tests.receiver.fleet import EPOCH, VEHICLE, make_block


@contextlib.asynccontextmanager
async def a_store(folder: Path, *vehicles: str) -> AsyncIterator[Store]:
    store = Store(sqlite_url(RealDisk(folder)))
    await store.open()
    for vehicle in vehicles or (VEHICLE,):
        await store.transact(admission.enrol, vehicle, f"token of {vehicle}", 1, 2)
    try:
        yield store
    finally:
        await store.close()


def arrival(block: bytes, vehicle: str = VEHICLE) -> Arrival:
    header, body = unpack_block(block)
    return Arrival(vehicle, header, block, body)


def outcomes(verdicts: list[inbox.Verdict]) -> list[Outcome]:
    return [verdict.outcome for verdict in verdicts]


def rows(connection: Connection) -> list[tuple[str, int, int, int]]:
    columns = inbox_table.c.vehicle, inbox_table.c.lane, inbox_table.c.base_seq, inbox_table.c.count
    return [tuple(row) for row in connection.execute(select(*columns).order_by(*columns))]


@dataclass(frozen=True, slots=True)
class Sent:
    base: int
    count: int
    note: str


sendings = st.lists(
    st.builds(Sent, st.integers(0, 12), st.integers(1, 4), st.sampled_from(["x", "y"])), min_size=1, max_size=20
)


@given(sendings)
def test_a_shelf_never_holds_a_number_twice_and_knows_its_own_again(sent: list[Sent]) -> None:
    shelf, owner = Shelf(IntervalSet(), {}), dict[int, tuple[Sent, bytes]]()
    for one in sent:
        block = make_block(one.base, one.count, note=one.note)
        verdict = shelf.judge(arrival(block), block)
        holders = {owner.get(seq) for seq in range(one.base, one.base + one.count)}
        if holders == {None}:
            assert verdict.outcome is Outcome.STORED
            owner |= dict.fromkeys(range(one.base, one.base + one.count), (one, block))
        elif owner.get(one.base) == (one, block):
            assert verdict.outcome is Outcome.DUPLICATE
        else:
            assert verdict.outcome is Outcome.CONFLICT
    assert {seq for start, end in shelf.stored for seq in range(start, end)} == set(owner)
    assert sum(new.header.count for new, _ in shelf.fresh) == len(owner)


async def test_the_same_block_again_is_a_duplicate_with_a_receipt_and_no_second_row(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        one, two = arrival(make_block(0)), arrival(make_block(3))
        within = await store.transact(inbox.commit, [one, two, one], 5)
        assert outcomes(within) == [Outcome.STORED, Outcome.STORED, Outcome.DUPLICATE]
        again = await store.transact(inbox.commit, [two], 6)
        assert outcomes(again) == [Outcome.DUPLICATE]
        assert receipts([two], again)[0][1].ranges == ((3, 6),)
        assert await store.transact(rows) == [(VEHICLE, 1, 0, 3), (VEHICLE, 1, 3, 3)]


@pytest.mark.parametrize(
    "other",
    [make_block(0, note="other"), make_block(1, 2), make_block(0, 4), make_block(2, 9)],
    ids=["other bytes", "inner part", "longer", "partly beyond"],
)
async def test_other_bytes_under_stored_numbers_are_quarantined_with_an_alarm_and_no_receipt(
    tmp_path: Path, other: bytes
) -> None:
    async with a_store(tmp_path) as store:
        await store.transact(inbox.commit, [arrival(make_block(0))], 5)
        verdicts = await store.transact(inbox.commit, [arrival(other)], 6)
        assert outcomes(verdicts) == [Outcome.CONFLICT]
        assert receipts([arrival(other)], verdicts) == []
        kept = await store.transact(lambda c: c.execute(select(quarantine.c.block)).scalars().all())
        assert kept == [other]
        assert (await store.transact(journal.tail, 1))[0].event == "conflict"
        assert await store.transact(rows) == [(VEHICLE, 1, 0, 3)]


async def test_the_same_conflicting_bytes_from_two_vehicles_are_kept_and_alarmed_for_each(tmp_path: Path) -> None:
    async with a_store(tmp_path, VEHICLE, "veh-002") as store:
        for block in (make_block(0), make_block(0, note="other")):
            verdicts = await store.transact(inbox.commit, [arrival(block), arrival(block, "veh-002")], 5)
        assert outcomes(verdicts) == [Outcome.CONFLICT, Outcome.CONFLICT]
        kept = await store.transact(lambda c: c.execute(select(quarantine.c.vehicle)).scalars().all())
        assert sorted(kept) == [VEHICLE, "veh-002"]
        alarms = [(entry.event, entry.subject) for entry in await store.transact(journal.tail, 2)]
        assert alarms == [("conflict", VEHICLE), ("conflict", "veh-002")]


async def test_streams_of_other_vehicles_lanes_and_epochs_do_not_meet(tmp_path: Path) -> None:
    async with a_store(tmp_path, VEHICLE, "veh-002") as store:
        blocks = [
            arrival(make_block(0)),
            arrival(make_block(0, note="z"), "veh-002"),
            arrival(make_block(0, lane=Lane.P2, note="z")),
            arrival(make_block(0, epoch=bytes(16), note="z")),
        ]
        assert set(outcomes(await store.transact(inbox.commit, blocks, 5))) == {Outcome.STORED}


async def test_an_unreadable_body_is_bad_and_the_rest_of_its_batch_is_stored(tmp_path: Path) -> None:
    junk = b"not zstandard"
    header = BlockHeader(Lane.P1, Purpose.SAFETY, EPOCH, 50, 1, 1, 0, len(junk))
    async with a_store(tmp_path) as store:
        batch = [arrival(pack_block(header, junk)), arrival(make_block(0))]
        assert outcomes(await store.transact(inbox.commit, batch, 5)) == [Outcome.BAD, Outcome.STORED]


async def test_a_block_of_a_dictionary_to_come_is_kept_by_its_vehicle_and_the_rest_is_stored(tmp_path: Path) -> None:
    body = unpack_block(make_block(50, 1))[1]
    header = BlockHeader(Lane.P1, Purpose.OPERATION, EPOCH, 50, 1, 1, NEWEST_DICTIONARY + 1, len(body))
    async with a_store(tmp_path) as store:
        batch = [arrival(pack_block(header, body)), arrival(make_block(0))]
        verdicts = await store.transact(inbox.commit, batch, 5)
        assert outcomes(verdicts) == [Outcome.THROTTLED, Outcome.STORED]
        assert "update it" in verdicts[0].words


def test_the_same_bytes_again_are_told_apart_without_being_read() -> None:
    whole = arrival(make_block(0))
    shelf = Shelf(IntervalSet([(0, 3)]), {0: b"digest"})
    unreadable = replace(whole, body=b"not zstandard")
    assert shelf.judge(unreadable, b"digest").outcome is Outcome.DUPLICATE
    assert shelf.judge(unreadable, b"other").outcome is Outcome.BAD


async def test_coverage_is_merged_whatever_the_order_and_survives_a_restart(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        for base in (6, 0, 12, 3):
            await store.transact(inbox.commit, [arrival(make_block(base))], 5)
    store = Store(sqlite_url(RealDisk(tmp_path)))
    found = await store.transact(lambda c: c.execute(select(coverage.c.first_seq, coverage.c.end_seq)).all())
    assert sorted(map(tuple, found)) == [(0, 9), (12, 15)]
    assert outcomes(await store.transact(inbox.commit, [arrival(make_block(6))], 6)) == [Outcome.DUPLICATE]
    await store.close()


@settings(max_examples=50)
@given(batches=st.lists(sendings, min_size=1, max_size=6))
def test_a_commit_that_reads_only_what_is_near_judges_as_if_it_had_read_all(batches: list[list[Sent]]) -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        schema.create_all(connection)
        whole = Shelf(IntervalSet(), {})
        for batch in batches:
            blocks = [make_block(3 * one.base, one.count, note=one.note) for one in batch]
            verdicts = inbox.commit(connection, [arrival(block) for block in blocks], 5)
            expected = [whole.judge(arrival(block), hashlib.sha256(block).digest()) for block in blocks]
            assert outcomes(verdicts) == outcomes(expected)
            found = connection.execute(select(coverage.c.first_seq, coverage.c.end_seq)).all()
            assert sorted(map(tuple, found)) == list(whole.stored)


async def test_a_commit_reads_no_more_ranges_however_many_gaps_there_are(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.transact(scatter, 5_000)
        # Between two, over many, at the end, and beyond it.
        spans = [(7, 8), (100, 9_000), (9_998, 10_000), (20_000, 20_005)]
        read = await store.transact(inbox._near, Place(VEHICLE, Lane.P1, EPOCH), spans)
        assert len(read) <= 3 * len(spans)
        verdicts = await store.transact(inbox.commit, [arrival(make_block(a, b - a)) for a, b in spans], 5)
        assert outcomes(verdicts) == [Outcome.STORED, Outcome.CONFLICT, Outcome.CONFLICT, Outcome.STORED]


async def test_a_vehicle_with_too_many_gaps_closes_them_or_waits(tmp_path: Path) -> None:
    async with a_store(tmp_path, VEHICLE, "veh-002") as store:
        await store.transact(scatter, 10)
        gap, more, elsewhere = arrival(make_block(5, 1)), arrival(make_block(100)), arrival(make_block(100), "veh-002")
        verdicts = await store.transact(inbox.commit, [more, elsewhere, gap], 5, ranges_per_vehicle=10)
        assert outcomes(verdicts) == [Outcome.THROTTLED, Outcome.STORED, Outcome.STORED]
        assert outcomes(await store.transact(inbox.commit, [more], 5, ranges_per_vehicle=10)) == [Outcome.STORED]


def scatter(connection: Connection, count: int) -> None:
    """0, 2, 4 and so on are stored."""
    key = {"vehicle": VEHICLE, "lane": int(Lane.P1), "epoch": EPOCH}
    connection.execute(coverage.insert(), [key | {"first_seq": 2 * n, "end_seq": 2 * n + 1} for n in range(count)])


async def test_a_hostile_vehicle_fills_neither_quarantine_nor_audit(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        flood = [arrival(make_block(0, 1, note=str(n))) for n in range(QUARANTINED_PER_VEHICLE + 20)]
        verdicts = await store.transact(inbox.commit, [*flood, *flood], 5)
        kept = await store.transact(lambda c: c.execute(select(func.count()).select_from(quarantine)).scalar_one())
        assert kept == QUARANTINED_PER_VEHICLE
        # The vehicle lets go of what is kept here and of nothing else.
        conflicts = [Outcome.CONFLICT] * QUARANTINED_PER_VEHICLE + [Outcome.UNSETTLED] * 19
        assert outcomes(verdicts) == [Outcome.STORED, *conflicts, Outcome.DUPLICATE, *conflicts]
        assert await journal.broken_at(store) is None


async def test_what_fails_in_a_transaction_never_happened(tmp_path: Path) -> None:
    def fails(connection: Connection) -> None:
        inbox.commit(connection, [arrival(make_block(0))], 5)
        connection.execute(text("insert into nowhere values (1)"))

    async with a_store(tmp_path) as store:
        with pytest.raises(StoreError, match="nowhere"):
            await store.transact(fails)
        assert await store.transact(rows) == []


async def test_the_audit_is_walked_a_page_a_transaction_and_others_go_in_between(tmp_path: Path) -> None:
    def fill(connection: Connection) -> None:
        for n in range(2 * journal.PAGE + 1):
            journal.append(connection, n, "test")

    async with a_store(tmp_path) as store:
        await store.transact(fill)
        walking = asyncio.create_task(journal.broken_at(store))
        # Queued behind the first page, and done before the last.
        await asyncio.sleep(0)
        await store.transact(journal.tail, 1)
        assert not walking.done()
        assert await walking is None
        at = journal.PAGE + 1
        await store.transact(lambda c: c.execute(text(f"update audit set previous = zeroblob(32) where seq = {at}")))
        assert await journal.broken_at(store) == at


async def test_a_change_in_the_database_is_found_by_the_audit(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        for n in range(5):
            await store.transact(journal.append, n, "test", "", str(n))
        assert await journal.broken_at(store) is None
        await store.transact(lambda c: c.execute(text("update audit set detail = 'forged' where seq = 3")))
        assert await journal.broken_at(store) == 3


def test_the_checksum_of_the_tests_blocks_is_right() -> None:
    block = make_block(0)
    assert zlib.crc32(block[48:], zlib.crc32(block[:44])) == int.from_bytes(block[44:48], "little")
