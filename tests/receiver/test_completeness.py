"""Of every number below the last that is stored the receiver knows: stored, left the vehicle and why, or missing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select
from typer.testing import CliRunner

from receiver import completeness, departed, inbox
from receiver.admission import NotAdmitted
from receiver.answers import VehicleRecords
from receiver.cli import app
from receiver.completeness import account
from receiver.departed import RANGES_A_BLOCK
from receiver.store import Store
from receiver.tables import departed as departed_table
from telemetry.records import AnyEvent, ClockAnchor, Lane, Purpose, RecordsLeft, Stored, TimeSource, encode_event
from telemetry.spool.intervals import IntervalSet
from telemetry.wire import CODEC_RECORDS_ZSTD, NO_DICTIONARY, BlockHeader, pack_block, pack_body
from tests.receiver.fleet import EPOCH, VEHICLE, a_receiver, a_vehicle, make_block
from tests.receiver.test_inbox import a_store, arrival

OTHER = bytes(range(16, 32))
PARTS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=8).map(
    lambda made: IntervalSet((start, start + length) for start, length in made)
)


def told(*events: AnyEvent, base_seq: int = 0, epoch: bytes = OTHER) -> bytes:
    body = pack_body([Stored(1000 + n, 5, msgspec.Raw(encode_event(event))) for n, event in enumerate(events)])
    header = BlockHeader(
        Lane.P1, Purpose.OPERATION, epoch, base_seq, len(events), CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body)
    )
    return pack_block(header, body)


def left(*ranges: tuple[int, int], reason: str = "evicted:quota", unranged: int = 0, lane: int = 2) -> RecordsLeft:
    return RecordsLeft(lane, EPOCH if ranges else b"", reason, list(ranges), unranged)


async def known_after(store: Store, *blocks: bytes) -> VehicleRecords:
    for block in blocks:
        await store.transact(inbox.commit, [arrival(block)], 1)
    return await store.transact(completeness.of_vehicle, VEHICLE)


@given(PARTS, st.dictionaries(st.sampled_from(["erased", "evicted:quota", "lost_in_crash"]), PARTS))
def test_each_number_below_the_last_stored_is_stored_or_left_for_one_reason_or_missing(
    stored: IntervalSet, left: dict[str, IntervalSet]
) -> None:
    reasons, missing = account(stored, left)
    here = {n for start, end in stored for n in range(start, end)}
    gone = {n for ranges in left.values() for start, end in ranges for n in range(start, end)} - here
    assert sum(reasons.values()) == len(gone)
    lost = set(range(max(here, default=0))) - here - gone
    assert {n for start, end in missing for n in range(start, end)} == lost


async def test_a_gap_is_missing_until_the_vehicle_says_that_it_left_and_then_it_is_not(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        before = await known_after(store, make_block(0, 3, Lane.P2), make_block(9, 1, Lane.P2))
        assert (before.lanes[2].stored, before.lanes[2].missing) == (4, 6)
        assert [(part.start, part.end) for part in before.missing] == [(3, 9)]
        partly = await known_after(store, told(left((3, 5), (7, 9))))
        assert (partly.lanes[2].left, partly.lanes[2].missing) == ({"evicted:quota": 4}, 2)
        whole = await known_after(store, told(left((5, 7), reason="erased"), base_seq=1))
        assert (whole.lanes[2].left, whole.lanes[2].missing) == ({"evicted:quota": 4, "erased": 2}, 0)
        assert whole.missing == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 0, 1, 2, 2)])
async def test_what_left_may_be_told_twice_overlapping_and_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    blocks = [
        told(left((3, 6)), left(unranged=2)),
        told(left((5, 9), (20, 30)), base_seq=2),
        told(left((3, 9)), base_seq=3),
    ]
    async with a_store(tmp_path) as store:
        known = await known_after(store, *(blocks[n] for n in order))
        rows = await store.transact(lambda connection: connection.execute(select(departed_table)).all())
    assert known.lanes[2].left == {"evicted:quota": 16}
    assert known.lanes[2].counted == {"evicted:quota": 2}
    assert sorted((row.first_seq, row.end_seq) for row in rows) == [(3, 9), (20, 30)]


async def test_what_is_stored_has_not_left_whatever_was_said(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        known = await known_after(store, told(left((0, 5))), make_block(0, 3, Lane.P2))
    assert (known.lanes[2].stored, known.lanes[2].left) == (3, {"evicted:quota": 2})


async def test_a_count_without_numbers_explains_no_more_than_it_counts(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        known = await known_after(store, make_block(9, 1, Lane.P2), told(left(unranged=4)))
        assert known.lanes[2].missing == 5
        known = await known_after(store, told(left(unranged=40), base_seq=1))
        assert known.lanes[2].missing == 0


ABSURD = [
    left((-3, 4)), left((4, 4)), left((9, 3)), left((0, 1 << 62)), left((0, 1 << 64 - 1)), left((1, 2), lane=9),
    left((1, 2), lane=-1), left((1, 2), reason="x" * 60), left((1, 2), reason="'; drop table"), left(unranged=-5),
    left(unranged=1 << 62), RecordsLeft(2, b"short", "erased", [(1, 2)], 0),
    left(*((2 * n, 2 * n + 1) for n in range(RANGES_A_BLOCK + 1))),
]  # fmt: skip


@pytest.mark.parametrize("claim", range(len(ABSURD)))
async def test_an_absurd_claim_changes_nothing_and_its_block_is_stored(tmp_path: Path, claim: int) -> None:
    async with a_store(tmp_path) as store:
        known = await known_after(store, told(ABSURD[claim], left((7, 8))))
    assert known.lanes[1].stored == 2
    assert claim == len(ABSURD) - 1 or known.lanes[2].left == {"evicted:quota": 1}
    assert not any(lane.counted for lane in known.lanes)


async def test_a_vehicle_that_claims_without_end_takes_a_bounded_place_and_keeps_the_number(tmp_path: Path) -> None:
    def claim(connection: Connection, base: int) -> int:
        ranges = [(base + 2 * n, base + 2 * n + 1) for n in range(10)]
        records = [Stored(0, 0, msgspec.Raw(encode_event(left(*ranges))))]
        departed.keep(connection, VEHICLE, records, ranges_per_vehicle=25)
        return int(connection.execute(select(func.count()).select_from(departed_table)).scalar_one())

    async with a_store(tmp_path) as store:
        sizes = [await store.transact(claim, 100 * n) for n in range(6)]
        known = await store.transact(completeness.of_vehicle, VEHICLE)
    assert max(sizes) <= 25
    assert sum(known.lanes[2].left.values()) + sum(known.lanes[2].counted.values()) == 60


async def test_what_one_vehicle_says_is_no_word_about_another(tmp_path: Path) -> None:
    async with a_store(tmp_path, VEHICLE, "veh-002") as store:
        await store.transact(inbox.commit, [arrival(told(left((0, 5))), "veh-002")], 1)
        assert (await known_after(store, make_block(5, 1, Lane.P2))).lanes[2].missing == 5
        with pytest.raises(NotAdmitted):
            await store.transact(completeness.of_vehicle, "veh-003")


async def test_an_operator_reads_when_what_is_missing_was_captured_although_the_clock_was_wrong(tmp_path: Path) -> None:
    true_ns = 1_790_000_000 * 10**9
    anchor = ClockAnchor("boot", 0, true_ns, TimeSource.RECEIVER.value, 500, {Lane.P2.name: EPOCH.hex()})
    async with a_receiver(tmp_path) as receiver:
        link = (await a_vehicle(receiver, tmp_path)).link()
        await link.connect()
        for block in (make_block(0, 3, Lane.P2), make_block(9, 1, Lane.P2)):
            await link.publish(Lane.P2, block)
        for block in (told(anchor), told(left((3, 5)), base_seq=1)):
            await link.publish(Lane.P1, block)
        arguments = ["records", VEHICLE, "--state", str(tmp_path / "receiver")]
        said = await asyncio.to_thread(CliRunner().invoke, app, arguments, env={"COLUMNS": "200"})
        (part,) = (await receiver.operator.records(VEHICLE)).missing
        await link.close()
    assert part.after is not None
    assert (part.after.wall_ns, part.after.source) == (true_ns + 1002, "receiver")
    assert said.exit_code == 0
    assert "2 evicted:quota" in said.output
    assert "missing P2 00010203 5-8" in said.output.replace("\n", " ")
    assert part.before is not None
    assert part.before.wall_ns == true_ns + 1009


async def test_events_of_another_version_beside_it_keep_no_claim_from_being_heard(tmp_path: Path) -> None:
    strange = [Stored(0, 0, msgspec.Raw(msgspec.msgpack.encode(one))) for one in (5, {"kind": "of_tomorrow"})]
    records = [*strange, Stored(0, 0, msgspec.Raw(encode_event(left((0, 5)))))]
    body = pack_body(records)
    header = BlockHeader(Lane.P1, Purpose.OPERATION, OTHER, 0, 3, CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body))
    async with a_store(tmp_path) as store:
        known = await known_after(store, pack_block(header, body))
    assert (known.lanes[1].stored, known.lanes[2].left) == (3, {"evicted:quota": 5})
