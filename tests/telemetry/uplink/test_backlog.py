"""The contract of the Backlog port, held against every implementation named in BACKLOGS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import pytest

from telemetry.records import Lane
from telemetry.uplink.backlog import Backlog, BlockRef
from telemetry.uplink.memory import MemoryBacklog
from telemetry.wire import BadBlock, Receipt
from tests.telemetry.uplink.scene import EPOCH, a_block, idle


class Fillable(Backlog, Protocol):
    def add(self, block: bytes) -> BlockRef: ...

    def corrupt(self, ref: BlockRef) -> None: ...


BACKLOGS: list[Callable[[], Fillable]] = [MemoryBacklog]


@pytest.fixture(params=BACKLOGS)
def backlog(request: pytest.FixtureRequest) -> Fillable:
    made: Fillable = request.param()
    return made


def receipt(*ranges: tuple[int, int], lane: Lane = Lane.P1, epoch: bytes = EPOCH) -> Receipt:
    return Receipt(lane, epoch, ranges)


async def test_blocks_come_oldest_first_lane_by_lane_and_once_a_connection(backlog: Fillable) -> None:
    for lane in (Lane.P1, Lane.P2):
        for base in (0, 3):
            backlog.add(a_block(lane, base))
    seen = []
    while (ref := backlog.next_unsent(Lane.P1)) is not None:
        backlog.mark_sent(ref)
        seen.append((ref.lane, ref.epoch, ref.base_seq, ref.count, ref.wire_bytes))
    assert seen == [(Lane.P1, EPOCH, base, 3, len(a_block(Lane.P1, base))) for base in (0, 3)]
    backlog.rewind()
    again = backlog.next_unsent(Lane.P1)
    assert again is not None
    assert again.base_seq == 0
    assert await backlog.load(again) == a_block(Lane.P1, 0)


async def test_a_receipt_frees_what_was_sent_and_nothing_else(backlog: Fillable) -> None:
    sent, unsent = backlog.add(a_block(Lane.P1, 0)), backlog.add(a_block(Lane.P1, 3))
    backlog.mark_sent(sent)
    assert await backlog.acknowledge(receipt((0, 6), epoch=b"o" * 16)) == 0
    assert await backlog.acknowledge(receipt((0, 6), lane=Lane.P2)) == 0
    assert await backlog.acknowledge(receipt((0, 1 << 40))) == 3
    assert await backlog.acknowledge(receipt((0, 6))) == 0
    left = backlog.next_unsent(Lane.P1)
    assert left is not None
    assert left.base_seq == unsent.base_seq


async def test_what_was_sent_over_an_earlier_connection_is_still_acknowledged(backlog: Fillable) -> None:
    backlog.mark_sent(backlog.add(a_block(Lane.P1, 0)))
    backlog.rewind()
    assert await backlog.acknowledge(receipt((0, 3))) == 3
    assert backlog.next_unsent(Lane.P1) is None


async def test_a_quarantined_block_is_out_of_the_way_for_good(backlog: Fillable) -> None:
    poison, good = backlog.add(a_block(Lane.P1, 0)), backlog.add(a_block(Lane.P1, 3))
    backlog.mark_sent(poison)
    await backlog.quarantine(poison, "refused")
    await backlog.quarantine(poison, "refused again")
    backlog.rewind()
    head = backlog.next_unsent(Lane.P1)
    assert head is not None
    assert head.base_seq == good.base_seq
    assert await backlog.acknowledge(receipt((0, 3))) == 0


async def test_a_corrupt_block_is_named_once_and_then_gone(backlog: Fillable) -> None:
    ref = backlog.add(a_block(Lane.P1, 0))
    backlog.corrupt(ref)
    with pytest.raises(BadBlock):
        await backlog.load(ref)
    backlog.rewind()
    assert backlog.next_unsent(Lane.P1) is None


async def test_wait_returns_for_what_comes_after_it_was_called(backlog: Fillable) -> None:
    backlog.add(a_block(Lane.P1, 0))
    waiting = asyncio.ensure_future(backlog.wait())
    await idle()
    assert not waiting.done()
    backlog.add(a_block(Lane.P1, 3))
    await asyncio.wait_for(waiting, timeout=5)


async def test_memory_counts_parts_of_a_block_once_and_frees_it_with_its_last() -> None:
    backlog = MemoryBacklog()
    backlog.mark_sent(backlog.add(a_block(Lane.P1, 10, count=10)))
    freed = [await backlog.acknowledge(receipt(part)) for part in [(12, 15), (10, 13), (0, 12), (14, 99)]]
    assert freed == [3, 2, 0, 5]
    assert len(backlog) == 0
