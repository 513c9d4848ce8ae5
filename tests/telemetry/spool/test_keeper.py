from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from ecu.clock import SECOND_NS, SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault
from ecu.keys import MemoryKeyStore
from telemetry.confirmations import Confirmation
from telemetry.records import COMMIT_AFTER_NS, Lane, Purpose, RecordBatch
from telemetry.spool import Spool, SpoolKeeper
from telemetry.spool.counts import MemoryCounters
from telemetry.spool.untold import MOST_TOLD
from telemetry.uplink.backlog import Backlog
from telemetry.uplink.memory import MemoryRef
from telemetry.wire import BadBlock
from tests.telemetry.spool.rig import ROOMY, receipt_for, record, seeded_entropy


class Gated(CrashDisk):
    """Holds its writer at the gate while that is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def sync(self, path: str) -> None:
        assert self.gate.wait(timeout=30)
        super().sync(path)


class Kept:
    """A keeper on a disk in memory, what it confirmed, and its clock."""

    def __init__(self) -> None:
        self.disk = Gated()
        self.clock = SteppingClock()
        self.confirmed: list[Confirmation] = []
        self.told = asyncio.Event()
        spool = Spool.open(self.disk, MemoryKeyStore(), self.clock, seeded_entropy(0), ROOMY, MemoryCounters())
        self.keeper = SpoolKeeper(spool, self.clock, self.tell)

    def tell(self, confirmed: Sequence[Confirmation]) -> None:
        self.confirmed += confirmed
        self.told.set()


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    kept = Kept()
    yield kept
    kept.disk.gate.set()
    await kept.keeper.close(SECOND_NS)


@pytest.fixture
async def running(kept: Kept) -> AsyncIterator[Kept]:
    task = asyncio.ensure_future(kept.keeper.run())
    await asyncio.sleep(0)
    yield kept
    task.cancel()
    await asyncio.wait((task,))


def test_a_keeper_is_a_backlog() -> None:
    assert issubclass(SpoolKeeper, object)
    backlog: type[Backlog] = SpoolKeeper
    assert backlog is SpoolKeeper


@pytest.mark.parametrize("lane", Lane)
async def test_a_record_is_durable_when_its_lanes_time_is_up_and_not_before(running: Kept, lane: Lane) -> None:
    running.keeper.offer(record(1, lane))
    running.clock.advance(COMMIT_AFTER_NS[lane] - 1)
    await asyncio.sleep(0)
    assert running.keeper.counts().lanes[lane].pending == 1
    running.clock.advance(COMMIT_AFTER_NS[lane])
    await running.told.wait()
    assert running.keeper.counts().lanes[lane].durable == 1


async def test_what_nobody_wants_any_more_leaves_without_anything_else_happening(running: Kept) -> None:
    running.keeper.offer(record(1, keep_s=60))
    running.clock.advance(COMMIT_AFTER_NS[Lane.P1])
    await running.told.wait()
    leaving = asyncio.ensure_future(running.keeper.left())
    await asyncio.sleep(0)
    running.clock.advance(80 * SECOND_NS)
    async with asyncio.timeout(10):
        await leaving
    assert running.keeper.counts().lanes[Lane.P1].evicted == {"expired": 1}


async def test_what_left_is_told_within_the_deadline_of_its_lane(running: Kept) -> None:
    running.keeper.offer(record(1))
    running.clock.advance(COMMIT_AFTER_NS[Lane.P1])
    await running.told.wait()
    running.told.clear()
    ref = running.keeper.next_unsent(Lane.P1)
    assert ref is not None
    await running.keeper.quarantine(ref, "no")
    assert running.keeper.counts().lanes[Lane.P1].pending == 1
    running.clock.advance(2 * COMMIT_AFTER_NS[Lane.P1])
    await running.told.wait()
    assert running.keeper.counts().untold == 0


async def test_where_something_expires_again_and_again_telling_of_it_takes_little_flash(kept: Kept) -> None:
    """Mutation: a record each time, for ever, since nobody takes it: they push out what there is to tell."""
    for number in range(360):
        kept.keeper.offer(record(number, Lane.P2, keep_s=30))
        kept.clock.advance(kept.clock.boot_ns() + 10 * SECOND_NS)
        await kept.keeper.commit_due()
        await kept.keeper.flush()
    p1, p2 = kept.keeper.counts().lanes[Lane.P1], kept.keeper.counts().lanes[Lane.P2]
    assert p2.evicted["expired"] > 300
    assert 1 < p1.durable <= MOST_TOLD
    assert 0 < kept.keeper.counts().untold < p2.evicted["expired"]


async def test_a_batch_is_taken_like_its_records(kept: Kept) -> None:
    events = [record(n).event for n in range(30)]
    assert kept.keeper.offer_many(RecordBatch(Lane.P2, Purpose.DRIVING, range(30), events)) == 30
    await kept.keeper.flush()
    assert [item.seq for item in kept.confirmed] == list(range(30))


async def test_an_urgent_record_overtakes_a_commit_planned_for_later(running: Kept) -> None:
    running.keeper.offer(record(1, Lane.P3))
    await asyncio.sleep(0)
    running.keeper.offer(record(2, Lane.P0))
    await asyncio.sleep(0)
    running.clock.advance(COMMIT_AFTER_NS[Lane.P0])
    await running.told.wait()
    assert [item.lane for item in running.confirmed] == [Lane.P0]


async def test_flush_makes_all_durable_and_tells_each_record(kept: Kept) -> None:
    for number in range(4):
        kept.keeper.offer(record(number, Lane(number)))
    await kept.keeper.flush()
    assert len(kept.confirmed) == 4
    await kept.keeper.flush()
    assert len(kept.confirmed) == 4


async def test_an_owner_that_moves_the_clock_commits_what_is_due(kept: Kept) -> None:
    kept.keeper.offer(record(1, Lane.P0))
    kept.keeper.offer(record(2, Lane.P3))
    kept.clock.advance(COMMIT_AFTER_NS[Lane.P0])
    await kept.keeper.commit_due()
    assert [item.lane for item in kept.confirmed] == [Lane.P0]


async def test_waiting_ends_when_something_becomes_durable_after_the_call(kept: Kept) -> None:
    waiting = asyncio.ensure_future(kept.keeper.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    kept.keeper.offer(record(1))
    await kept.keeper.flush()
    await waiting
    late = asyncio.ensure_future(kept.keeper.wait())
    await asyncio.sleep(0)
    assert not late.done()
    late.cancel()


async def test_the_loop_goes_on_while_flash_is_slow(kept: Kept) -> None:
    kept.disk.gate.clear()
    kept.keeper.offer(record(1))
    flushing = asyncio.ensure_future(kept.keeper.flush())
    await asyncio.sleep(0)
    assert kept.keeper.offer(record(2))
    assert kept.keeper.counts().holds
    assert kept.keeper.counts().lanes[Lane.P1].pending == 2
    assert not flushing.done()
    kept.disk.gate.set()
    await flushing
    await kept.keeper.flush()
    assert kept.keeper.counts().lanes[Lane.P1].durable == 2


async def test_a_cancelled_commit_is_finished_all_the_same(kept: Kept) -> None:
    kept.disk.gate.clear()
    kept.keeper.offer(record(1))
    flushing = asyncio.ensure_future(kept.keeper.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    await asyncio.wait((flushing,))
    kept.disk.gate.set()
    await kept.told.wait()
    assert kept.keeper.counts().lanes[Lane.P1].durable == 1
    assert kept.keeper.counts().holds


async def test_blocks_go_out_once_a_connection_and_again_after_a_new_one(kept: Kept) -> None:
    kept.keeper.offer(record(1))
    kept.keeper.offer(record(2, purpose=Purpose.DRIVING))
    await kept.keeper.flush()
    first = kept.keeper.next_unsent(Lane.P1)
    assert first is not None
    assert kept.keeper.next_unsent(Lane.P1) == first
    kept.keeper.mark_sent(first)
    second = kept.keeper.next_unsent(Lane.P1)
    assert second is not None
    kept.keeper.mark_sent(second)
    assert kept.keeper.next_unsent(Lane.P1) is None
    assert await kept.keeper.acknowledge(receipt_for(second)) == 1
    kept.keeper.rewind()
    assert kept.keeper.next_unsent(Lane.P1) == first
    await kept.keeper.quarantine(first, "refused")
    assert kept.keeper.next_unsent(Lane.P1) is None
    with pytest.raises(BadBlock):
        await kept.keeper.load(first)


async def test_who_waits_for_records_to_leave_is_told_of_each_way_out(kept: Kept) -> None:
    async def acknowledge() -> None:
        ref = kept.keeper.next_unsent(Lane.P1)
        assert ref is not None
        kept.keeper.mark_sent(ref)
        await kept.keeper.acknowledge(receipt_for(ref))

    async def acknowledge_and_leave() -> None:
        """As a connection that breaks does."""
        kept.disk.gate.clear()
        acting = asyncio.ensure_future(acknowledge())
        await asyncio.sleep(0)
        acting.cancel()
        await asyncio.wait((acting,))
        kept.disk.gate.set()

    async def quarantine() -> None:
        ref = kept.keeper.next_unsent(Lane.P1)
        assert ref is not None
        await kept.keeper.quarantine(ref, "refused")

    async def erase() -> None:
        await kept.keeper.erase(Purpose.OPERATION)

    for way_out in (acknowledge, quarantine, erase, acknowledge_and_leave):
        before = kept.keeper.any_spooled
        kept.keeper.offer(record(1, purpose=Purpose.OPERATION))
        await kept.keeper.flush()
        assert (before, kept.keeper.any_spooled) == (False, True)
        leaving = asyncio.ensure_future(kept.keeper.left())
        await asyncio.sleep(0)
        assert not leaving.done()
        await way_out()
        async with asyncio.timeout(10):
            await leaving
        assert not kept.keeper.any_spooled, way_out.__name__
        kept.keeper.rewind()


async def test_a_ref_of_another_backlog_is_a_mistake(kept: Kept) -> None:
    with pytest.raises(TypeError, match="another backlog"):
        kept.keeper.mark_sent(MemoryRef(Lane.P1, bytes(16), 0, 1, 100))


async def test_after_a_purge_nothing_of_its_purpose_is_handed_to_a_link_and_a_late_receipt_changes_nothing(
    kept: Kept,
) -> None:
    # Mutations: what is in hand is looked at only before it is loaded; a receipt counts again what was erased.
    for purpose in (Purpose.DRIVING, Purpose.OPERATION):
        kept.keeper.offer(record(1, purpose=purpose))
    await kept.keeper.flush()
    in_hand = []
    while (ref := kept.keeper.next_unsent(Lane.P1)) is not None:
        kept.keeper.mark_sent(ref)
        assert await kept.keeper.load(ref)
        in_hand.append(ref)
    assert [kept.keeper.may_go(ref) for ref in in_hand] == [True, True]
    kept.keeper.withhold({Purpose.DRIVING})
    go_on = [ref.purpose is not Purpose.DRIVING for ref in in_hand]
    assert [kept.keeper.may_go(ref) for ref in in_hand] == go_on, "from before it is durable"
    assert await kept.keeper.erase(Purpose.DRIVING) == 1
    kept.keeper.withhold(set())
    assert [kept.keeper.may_go(ref) for ref in in_hand] == go_on, "and for ever"
    [late] = [ref for ref in in_hand if ref.purpose is Purpose.DRIVING]
    assert await kept.keeper.acknowledge(receipt_for(late)) == 0
    counts = kept.keeper.counts()
    assert counts.holds
    assert (counts.lanes[Lane.P1].erased, counts.lanes[Lane.P1].acknowledged) == (1, 0)
    kept.keeper.offer(record(2, purpose=Purpose.DRIVING))
    await kept.keeper.flush()
    fresh = kept.keeper.next_unsent(Lane.P1)
    assert fresh is not None
    assert kept.keeper.may_go(fresh), "what came after it may go"


async def test_what_comes_while_its_purpose_is_withheld_goes_over_the_same_connection_afterwards(kept: Kept) -> None:
    # Mutations: it is offered, can't go and counts as sent; or what went meanwhile goes a second time; or nobody wakes.
    def sent() -> list[Purpose]:
        refs = []
        while (ref := kept.keeper.next_unsent(Lane.P1)) is not None:
            assert kept.keeper.may_go(ref)
            kept.keeper.mark_sent(ref)
            refs.append(ref.purpose)
        return refs

    kept.keeper.withhold({Purpose.DRIVING})
    for number, purpose in enumerate((Purpose.DRIVING, Purpose.OPERATION) * 2):
        kept.keeper.offer(record(number, purpose=purpose))
        await kept.keeper.flush()
    assert sent() == [Purpose.OPERATION] * 2, "nobody waits behind what is withheld"
    waking = asyncio.ensure_future(kept.keeper.wait())
    await asyncio.sleep(0)
    kept.keeper.withhold(set())
    async with asyncio.timeout(5):
        await waking
    assert sent() == [Purpose.DRIVING] * 2
    kept.keeper.offer(record(9, purpose=Purpose.DRIVING))
    await kept.keeper.flush()
    assert sent() == [Purpose.DRIVING]
    kept.keeper.rewind()
    assert len(sent()) == 5


async def test_erasing_takes_what_waits_and_what_lies_on_flash(kept: Kept) -> None:
    kept.keeper.offer(record(1, purpose=Purpose.DRIVING))
    await kept.keeper.flush()
    kept.keeper.offer(record(2, purpose=Purpose.DRIVING))
    kept.keeper.offer(record(3))
    assert await kept.keeper.erase(Purpose.DRIVING) == 2
    await kept.keeper.flush()
    assert kept.keeper.counts().holds
    left, telling = kept.keeper.counts().lanes[Lane.P1].spooled, 1
    assert left == 1 + telling


async def test_closing_makes_all_durable_and_ends(kept: Kept) -> None:
    kept.keeper.offer(record(1, Lane.P3))
    assert await kept.keeper.close(SECOND_NS)
    assert len(kept.confirmed) == 1
    with pytest.raises(RuntimeError, match="closed"):
        kept.keeper.offer(record(2))


async def test_closing_gives_up_in_time_on_flash_that_hangs() -> None:
    kept = Kept()
    kept.disk.gate.clear()
    kept.keeper.offer(record(1))
    closing = asyncio.ensure_future(kept.keeper.close(SECOND_NS))
    for _ in range(5):
        await asyncio.sleep(0)
    kept.clock.advance(SECOND_NS)
    assert not await closing
    kept.disk.gate.set()
    await kept.told.wait()


async def test_closing_over_flash_that_fails_drops_counts_and_says_so(kept: Kept) -> None:
    kept.keeper.offer(record(1))
    kept.disk.fail(lambda call: call.act == "write_at" and call.path.endswith(".seg"), DiskFault("worn"))
    kept.disk.fail(lambda call: call.act == "create", DiskFault("worn"))
    assert await kept.keeper.close(SECOND_NS)
    lane = kept.keeper.counts().lanes[Lane.P1]
    assert (lane.pending, sum(lane.dropped.values())) == (0, 1)
    assert kept.keeper.counts().holds
