"""A record is placed in true time by whatever its vehicle's clock was when it was captured."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.anchors import ClockAnchors
from ecu.clock import MILLISECOND_NS, SECOND_NS, OffsetClock, SteppingClock
from receiver.times import DRIFT, Moment, Placed, Timeline, read_timeline
from telemetry.records import ClockAnchor, Lane, Purpose, Stored, TimeSource, encode_event
from telemetry.wire import CODEC_RECORDS_ZSTD, NO_DICTIONARY, BlockHeader, pack_block, pack_body
from tests.receiver.fleet import VEHICLE, a_receiver, a_vehicle, make_block

YEAR_NS = 365 * 24 * 3600 * SECOND_NS
TRUE_NS = 1_800_000_000 * SECOND_NS
EPOCHS = {lane: bytes([lane]) * 16 for lane in Lane}


def told(
    wrong_by_ns: int, corrected_after_s: int | None, boot: str = "b"
) -> tuple[list[ClockAnchor], OffsetClock, SteppingClock]:
    """The anchors of a start at boot time 100 s with a clock that is wrong, and maybe corrected later."""
    inner = SteppingClock(100 * SECOND_NS, TRUE_NS)
    wall, anchors = OffsetClock(inner, wrong_by_ns), list[ClockAnchor]()
    teller = ClockAnchors(wall, boot, EPOCHS, anchors.append)
    teller.told(TimeSource.UNPROVEN)
    if corrected_after_s is not None:
        inner.advance(inner.boot_ns() + corrected_after_s * SECOND_NS)
        wall.correct(inner.wall_ns())
        teller.corrected(30 * MILLISECOND_NS)
    return anchors, wall, inner


@given(
    st.sampled_from([-TRUE_NS, -10 * YEAR_NS, 0, 10 * YEAR_NS]), st.integers(0, 40 * 24 * 3600), st.integers(0, 10**7)
)
def test_what_was_captured_before_the_clock_was_corrected_is_placed_by_the_correction(
    wrong_by_ns: int, after_s: int, captured_s: int
) -> None:
    anchors, _, _ = told(wrong_by_ns, after_s)
    captured_ns = captured_s * SECOND_NS
    placed = Timeline(anchors).place(Lane.P2, EPOCHS[Lane.P2], captured_ns, believed_ns=0)
    assert placed.source is TimeSource.RECEIVER
    assert placed.wall_ns == TRUE_NS + captured_ns - 100 * SECOND_NS
    apart_ns = abs(captured_ns - (100 + after_s) * SECOND_NS)
    assert placed.within_ns == 30 * MILLISECOND_NS + int(apart_ns * DRIFT)


def test_an_anchor_of_a_later_start_of_the_same_boot_places_what_the_earlier_one_captured() -> None:
    # Mutation: placing by epoch alone forgets the first start's records when only the second was corrected.
    first, _, _ = told(-TRUE_NS, None)
    second, _, _ = told(-TRUE_NS, 500)
    renamed = [msgspec.structs.replace(anchor, epochs={"P1": "ab" * 16}) for anchor in second]
    placed = Timeline([*first, *renamed]).place(Lane.P3, EPOCHS[Lane.P3], 200 * SECOND_NS, believed_ns=1)
    assert (placed.source, placed.wall_ns) == (TimeSource.RECEIVER, TRUE_NS + 100 * SECOND_NS)


def test_another_boots_anchors_and_unknown_epochs_place_nothing() -> None:
    other, _, _ = told(0, 5, boot="other")
    mine, _, _ = told(-TRUE_NS, None, boot="mine")
    renamed = [msgspec.structs.replace(anchor, epochs={"P1": "cd" * 16}) for anchor in mine]
    timeline = Timeline([*other, *renamed])
    assert timeline.place(Lane.P1, bytes.fromhex("cd" * 16), 7, believed_ns=42) == Placed(42, TimeSource.UNPROVEN, None)
    assert timeline.place(Lane.P1, bytes(16), 7, believed_ns=42).source is TimeSource.UNPROVEN


def test_certificates_vouch_for_what_nobody_signed() -> None:
    inner, anchors = SteppingClock(0, TRUE_NS), list[ClockAnchor]()
    teller = ClockAnchors(inner, "b", EPOCHS, anchors.append)
    teller.told(TimeSource.UNPROVEN)
    teller.proven()
    teller.proven()
    assert [anchor.source for anchor in anchors] == ["unproven", "certificates"]
    placed = Timeline(anchors).place(Lane.P0, EPOCHS[Lane.P0], 9, believed_ns=0)
    assert placed == Placed(TRUE_NS + 9, TimeSource.CERTIFICATES, None)


@pytest.mark.parametrize("set_right", [True, False], ids=["right", "wrong"])
async def test_a_clock_that_somebody_sets_while_connected_makes_no_record_wrong(set_right: bool) -> None:
    # Mutation: one proof a start: a clock that was proven two days behind and then set places all by what it was.
    behind_ns = 2 * 24 * 3600 * SECOND_NS
    clock, anchors = SteppingClock(100 * SECOND_NS, TRUE_NS - (behind_ns if set_right else 0)), list[ClockAnchor]()
    teller = ClockAnchors(clock, "b", EPOCHS, anchors.append)
    running = asyncio.ensure_future(teller.run(lambda: set_right))
    await asyncio.sleep(0)
    teller.proven()
    clock.set_wall(TRUE_NS if set_right else 0)
    for _ in range(10):
        clock.advance(clock.boot_ns() + 60 * SECOND_NS)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    running.cancel()
    assert [anchor.source for anchor in anchors] == [
        "unproven", "certificates", "certificates" if set_right else "unproven",
    ]  # fmt: skip
    for captured_s in (50, 100, 400, 90_000):
        placed = Timeline(anchors).place(Lane.P2, EPOCHS[Lane.P2], captured_s * SECOND_NS, believed_ns=0)
        assert placed.source is TimeSource.CERTIFICATES
        assert placed.wall_ns == TRUE_NS + (captured_s - 100) * SECOND_NS


def moment(lane: Lane, captured_s: int, believed_s: int, epochs: dict[Lane, bytes] = EPOCHS) -> Moment:
    return Moment(lane, epochs[lane], captured_s * SECOND_NS, believed_s * SECOND_NS)


def test_within_a_boot_the_later_is_later_whatever_the_clock_said() -> None:
    anchors, _, _ = told(-TRUE_NS, None)
    early, late = moment(Lane.P2, 200, 900), moment(Lane.P1, 300, 5)
    assert Timeline(anchors).is_later(late, early)
    assert not Timeline(anchors).is_later(early, late)
    assert not Timeline(anchors).is_later(early, early)


def test_of_two_boots_what_was_vouched_for_tells_the_later_and_else_what_was_believed() -> None:
    others = {lane: bytes([lane, 1]) * 8 for lane in Lane}
    first, _, _ = told(10 * YEAR_NS, 5, boot="first")
    second, _, _ = told(0, 400_000, boot="second")
    named = {lane.name: epoch.hex() for lane, epoch in others.items()}
    renamed = [msgspec.structs.replace(anchor, epochs=named) for anchor in second]
    before, after = moment(Lane.P2, 300_000, 9), moment(Lane.P1, 400_000, 1, others)
    assert Timeline([*first, *renamed]).is_later(after, before)
    assert not Timeline([*first, *renamed]).is_later(before, after)
    # Mutation: true time on one side, and what a wrong clock said on the other.
    assert Timeline(renamed).is_later(before, after)


async def test_the_receiver_reads_a_vehicles_anchors_from_its_inbox(tmp_path: Path) -> None:
    anchors, _, _ = told(-TRUE_NS, 60)
    body = pack_body([Stored(a.boot_ns, a.wall_ns, msgspec.Raw(encode_event(a))) for a in anchors])
    header = BlockHeader(
        Lane.P1, Purpose.OPERATION, EPOCHS[Lane.P1], 0, len(anchors), CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body)
    )  # fmt: skip
    async with a_receiver(tmp_path) as receiver:
        link = (await a_vehicle(receiver, tmp_path)).link()
        await link.connect()
        for block in (make_block(), pack_block(header, body)):
            await link.publish(Lane.P1, block)
        timeline = await receiver.store.transact(read_timeline, VEHICLE)
        await link.close()
    placed = timeline.place(Lane.P0, EPOCHS[Lane.P0], 50 * SECOND_NS, believed_ns=0)
    assert (placed.source, placed.wall_ns) == (TimeSource.RECEIVER, TRUE_NS - 50 * SECOND_NS)
