"""The uplink's life: what it does about each way a link can fail, and what it says about it."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ecu.clock import SECOND_NS, SteppingClock
from ecu.disk import DiskStarved
from ecu.errors import EXIT_USAGE
from telemetry.links.link import Acks, ClockUntrusted, Hint, Throttled, Unauthorized, Unreachable, Untrusted
from telemetry.links.memory import MemoryLink, MemoryReceiver
from telemetry.records import Lane
from telemetry.uplink import AcceptanceIsNotStorage, Hooks, Uplink, UplinkConfig, UplinkState
from telemetry.uplink.backlog import BlockRef
from telemetry.uplink.memory import MemoryBacklog, MemoryRef
from telemetry.uplink.meter import Meter
from telemetry.wire import unpack_block
from tests.telemetry.uplink.scene import Move, ScriptedLink, a_block, idle, key_of, running, until


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock(boot_ns=1_000 * SECOND_NS)


@pytest.fixture
def backlog() -> MemoryBacklog:
    return MemoryBacklog()


def header_lane(block: bytes) -> Lane:
    return unpack_block(block)[0].lane


def step(clock: SteppingClock, seconds: float) -> None:
    clock.advance(clock.boot_ns() + int(seconds * SECOND_NS))


async def test_a_record_leaves_the_backlog_by_the_receivers_receipt_only(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    receiver = MemoryReceiver(commits_at_once=False)
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1))
    backlog.add(a_block(Lane.P1, 0, count=4))
    async with running(uplink):
        await until(clock, lambda: uplink.status().counts.blocks_sent == 1)
        assert len(backlog) == 1
        receiver.commit()
        await idle()
        assert len(backlog) == 0
    status = uplink.status()
    assert status.law6_held
    assert (status.counts.records_sent, status.counts.records_freed, status.counts.receipts) == (4, 4, 1)
    assert status.counts.last_receipt_ns is not None
    assert status.counts.bytes_sent == len(a_block(Lane.P1, 0, count=4))


async def test_what_becomes_durable_while_all_is_quiet_goes_at_once(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    receiver = MemoryReceiver()
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1))
    async with running(uplink):
        await idle()
        for base in range(50):
            backlog.add(a_block(Lane.P2, base, count=1))
            await idle()
            assert len(receiver.stored("memory")) == base + 1


@pytest.mark.parametrize("failure", [Unreachable("tunnel"), Untrusted("who are you")])
async def test_an_unreachable_receiver_is_tried_again_after_full_jitter_and_the_reason_is_kept(
    clock: SteppingClock, backlog: MemoryBacklog, failure: Unreachable
) -> None:
    receiver = MemoryReceiver()
    link = MemoryLink(receiver, connect_failures=[failure] * 5)
    backlog.add(a_block(Lane.P1, 0))
    uplink = Uplink(link, backlog, clock, Random(3))
    async with running(uplink):
        await idle()
        assert uplink.status().state is UplinkState.WAITING
        assert uplink.status().reason == str(failure)
        assert uplink.status().since_ns == 1_000 * SECOND_NS
        assert not uplink.status().connected
        # Five pauses of at most 1, 2, 4, 8 and 16 seconds.
        await until(clock, lambda: len(backlog) == 0, within_s=31 + 5 * 0.5)
        assert uplink.status().counts.attempts == 6
        assert uplink.status().reason == ""


async def test_the_pauses_of_a_fleet_differ(clock: SteppingClock) -> None:
    async def attempts(seed: int) -> int:
        link = MemoryLink(MemoryReceiver(), connect_failures=[Unreachable("tunnel")] * 100)
        uplink = Uplink(link, MemoryBacklog(), clock, Random(seed))
        async with running(uplink):
            for _ in range(200):
                step(clock, 0.1)
                await idle()
        return uplink.status().counts.attempts

    assert len({await attempts(seed) for seed in range(8)}) > 1


async def test_an_unwelcome_vehicle_keeps_everything_and_comes_back_after_the_long_pause(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    receiver = MemoryReceiver()
    link = MemoryLink(receiver, failures=[Unauthorized("revoked")])
    backlog.add(a_block(Lane.P1, 0))
    uplink = Uplink(link, backlog, clock, Random(1))
    async with running(uplink):
        await idle()
        assert uplink.status().state is UplinkState.UNAUTHORIZED
        step(clock, 59)
        await idle()
        assert (uplink.status().counts.attempts, len(backlog)) == (1, 1)
        step(clock, 1)
        await idle()
        assert (uplink.status().counts.attempts, len(backlog)) == (2, 0)


@pytest.mark.parametrize("failure", [Unauthorized("revoked"), Unreachable("tunnel")])
async def test_a_nudge_ends_the_pause(
    clock: SteppingClock, backlog: MemoryBacklog, failure: Unauthorized | Unreachable
) -> None:
    uplink = Uplink(MemoryLink(MemoryReceiver(), connect_failures=[failure]), backlog, clock, Random(1))
    async with running(uplink):
        await idle()
        assert not uplink.status().connected
        uplink.nudge()
        await idle()
        assert uplink.status().connected


async def test_unauthorized_outweighs_whatever_else_ended_the_connection(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    link = ScriptedLink(clock, [Move.FAIL, Move.UNWELCOME, Move.FAIL])
    for base in range(4):
        backlog.add(a_block(Lane.P1, base, count=1))
    uplink = Uplink(link, backlog, clock, Random(1))
    async with running(uplink):
        await until(clock, lambda: not uplink.status().connected and uplink.status().counts.attempts > 0, step_s=0.01)
        assert uplink.status().state is UplinkState.UNAUTHORIZED


async def test_an_untrusted_clock_asks_for_time_and_tries_again(clock: SteppingClock, backlog: MemoryBacklog) -> None:
    asked: list[int] = []

    async def fetch_time() -> None:
        asked.append(clock.boot_ns())
        if len(asked) == 1:
            raise Unreachable("no time server either")

    link = MemoryLink(MemoryReceiver(), connect_failures=[ClockUntrusted("it is 1970")] * 2)
    uplink = Uplink(link, backlog, clock, Random(1), hooks=Hooks(clock_untrusted=fetch_time))
    async with running(uplink):
        await idle()
        assert uplink.status().state.value == "clock_untrusted"
        assert uplink.status().reason == "no time server either"
        await until(clock, lambda: uplink.status().connected, within_s=5)
    assert len(asked) == 2


async def test_a_hook_that_nudges_does_not_make_untrusted_dates_spin(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    async def fetch_time() -> None:
        uplink.nudge()

    link = MemoryLink(MemoryReceiver(), connect_failures=[ClockUntrusted("it is 1970")] * 1_000)
    uplink = Uplink(link, backlog, clock, Random(1), hooks=Hooks(clock_untrusted=fetch_time))
    async with running(uplink):
        for _ in range(600):
            step(clock, 1.0)
            await idle()
    assert uplink.status().counts.attempts < 20


async def test_a_throttled_link_is_left_alone_as_long_as_it_asked_and_stays_connected(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    receiver = MemoryReceiver()
    link = MemoryLink(receiver, failures=[Throttled("slower", after_s=30.0)])
    uplink = Uplink(link, backlog, clock, Random(1))
    backlog.add(a_block(Lane.P1, 0))
    async with running(uplink):
        await idle()
        assert (uplink.status().state, uplink.status().reason) == (UplinkState.THROTTLED, "slower")
        assert uplink.status().connected
        backlog.add(a_block(Lane.P0, 0))
        step(clock, 29.9)
        await idle()
        assert receiver.stored("memory") == []
        step(clock, 0.1 + 1.0)  # full jitter on top
        await idle()
        assert len(backlog) == 0
        assert uplink.status().counts.attempts == 1
        assert uplink.status().state is UplinkState.CONNECTED


@pytest.mark.parametrize("after_s", [float("nan"), float("inf"), 1e30, -5.0])
async def test_no_throttling_holds_a_vehicle_longer_than_the_cap(
    clock: SteppingClock, backlog: MemoryBacklog, after_s: float
) -> None:
    link = MemoryLink(MemoryReceiver(), failures=[Throttled("slower", after_s)])
    uplink = Uplink(link, backlog, clock, Random(1), UplinkConfig(throttle_cap_s=10.0))
    backlog.add(a_block(Lane.P1, 0))
    async with running(uplink):
        await until(clock, lambda: len(backlog) == 0, within_s=11.5)


async def test_a_link_without_receipts_is_refused_unless_that_is_configured(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    link = MemoryLink(MemoryReceiver(commits_at_once=False))
    link.acks = Acks.ACCEPTED
    with pytest.raises(AcceptanceIsNotStorage, match="free_on_acceptance") as refusal:
        Uplink(link, backlog, clock, Random(1))
    assert refusal.value.exit_code == EXIT_USAGE

    uplink = Uplink(link, backlog, clock, Random(1), UplinkConfig(free_on_acceptance=True))
    backlog.add(a_block(Lane.P1, 0, count=2))
    async with running(uplink):
        await until(clock, lambda: len(backlog) == 0)
    assert not uplink.status().law6_held
    assert uplink.status().counts.records_freed == 2


async def test_free_on_acceptance_changes_nothing_for_a_link_with_receipts(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    receiver = MemoryReceiver(commits_at_once=False)
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1), UplinkConfig(free_on_acceptance=True))
    backlog.add(a_block(Lane.P1, 0))
    async with running(uplink):
        await until(clock, lambda: uplink.status().counts.blocks_sent == 1)
        assert len(backlog) == 1
    assert uplink.status().law6_held


async def test_p0_goes_out_at_once_though_bulk_fills_the_window(clock: SteppingClock, backlog: MemoryBacklog) -> None:
    link = ScriptedLink(clock, [Move.STORE_SLOWLY] * 40)
    for base in range(40):
        backlog.add(a_block(Lane.P3, base, count=1))
    uplink = Uplink(link, backlog, clock, Random(1))
    async with running(uplink):
        await idle()
        before = len(link.started)
        assert before == 14
        backlog.add(a_block(Lane.P0, 0))
        await idle()
        assert [lane for lane, _, _ in link.started[before:]] == [Lane.P0]
        assert link.most_in_flight <= 16


async def test_a_receiver_that_stores_nothing_gets_no_more_than_the_unreceipted_limit(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    receiver = MemoryReceiver(commits_at_once=False)
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1), UplinkConfig(unreceipted=5))
    for base in range(30):
        backlog.add(a_block(Lane.P2, base, count=1))
    async with running(uplink):
        await idle()
        assert uplink.status().counts.blocks_sent == 5
        backlog.add(a_block(Lane.P0, 0))
        await idle()
        assert uplink.status().counts.blocks_sent == 6
        receiver.commit()
        await idle()
        assert uplink.status().counts.blocks_sent == 11


async def test_a_block_whose_receipt_got_lost_is_sent_again_over_a_new_connection(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    link = ScriptedLink(clock, [Move.LOSE_RECEIPT])
    uplink = Uplink(link, backlog, clock, Random(1))
    backlog.add(a_block(Lane.P1, 0))
    async with running(uplink):
        await until(clock, lambda: uplink.status().state is UplinkState.WAITING, within_s=61, step_s=1)
        assert "no receipt" in uplink.status().reason
        await until(clock, lambda: len(backlog) == 0, within_s=3)
    assert len(link.started) == 2


async def test_the_owner_hears_of_connections_and_hints(clock: SteppingClock, backlog: MemoryBacklog) -> None:
    receiver, heard, connected = MemoryReceiver(), list[Hint](), list[int]()
    hooks = Hooks(connected=lambda: connected.append(clock.boot_ns()), hint=heard.append)
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1), hooks=hooks)
    async with running(uplink):
        await idle()
        receiver.hint("memory", "desired_state")
        await idle()
        receiver.cut("memory")
        await until(clock, lambda: len(connected) == 2, within_s=3)
    assert heard == [Hint("desired_state")]


async def test_cancelling_leaves_no_task_behind_wherever_it_strikes(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    mine = asyncio.all_tasks()
    for turns in range(1, 40):
        link = ScriptedLink(clock, [Move.STORE_SLOWLY, Move.THROTTLE, Move.HOLD_RECEIPT, Move.BREAK_AFTER])
        for base in range(8):
            backlog.add(a_block(Lane.P2, turns * 8 + base, count=1))
        uplink = Uplink(link, backlog, clock, Random(turns))
        async with running(uplink):
            await idle(turns)
        assert link.closed
        assert uplink.status().state is UplinkState.STOPPED
        assert uplink.status().in_flight == 0
        assert asyncio.all_tasks() == mine


async def test_a_block_that_leaves_while_it_is_in_hand_is_not_handed_to_the_link(clock: SteppingClock) -> None:
    class Purged(MemoryBacklog):
        async def load(self, ref: BlockRef) -> bytes:
            block = await super().load(ref)
            if ref.lane is Lane.P1:
                self.evict(ref)
            return block

    backlog, receiver = Purged(), MemoryReceiver()
    for lane in (Lane.P1, Lane.P2):
        backlog.add(a_block(lane, 0))
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1))
    async with running(uplink):
        await idle(100)
        assert [key_of(block)[0] for block in receiver.stored("memory")] == [Lane.P2]
        assert len(backlog) == 0
        assert uplink.status().in_flight == 0


async def test_what_becomes_durable_between_the_first_look_and_the_first_wait_is_not_overlooked(
    clock: SteppingClock,
) -> None:
    class Racing(MemoryBacklog):
        """Another thread makes a block durable right after the first look."""

        def next_unsent(self, lane: Lane) -> MemoryRef | None:
            found = super().next_unsent(lane)
            if lane is Lane.P3 and not self.raced:
                self.raced = True
                self.add(a_block(Lane.P1, 0))
            return found

        raced = False

    backlog = Racing()
    uplink = Uplink(MemoryLink(MemoryReceiver()), backlog, clock, Random(1))
    async with running(uplink):
        await idle()
        assert backlog.raced
        assert len(backlog) == 0


async def test_a_send_that_never_began_gives_its_place_in_the_window_back(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    receiver, meter = MemoryReceiver(), Meter(clock)
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1), meter=meter)

    async def break_off() -> None:
        await asyncio.sleep(0)
        receiver.cut("memory")

    async def add() -> None:
        backlog.add(a_block(Lane.P1, 0))

    async with running(uplink):
        await idle()
        # In this order the connection ends in the very turn in which the send is begun, and cancels it unborn.
        await asyncio.gather(break_off(), add())
        await idle()
        assert not uplink.status().connected
        assert uplink.status().in_flight == 0
        assert meter.is_quiet


async def test_what_a_receipt_settled_while_throttled_is_not_sent_again(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    link = ScriptedLink(clock, [Move.STORE_AND_THROTTLE])
    uplink = Uplink(link, backlog, clock, Random(1))
    backlog.add(a_block(Lane.P1, 0))
    async with running(uplink):
        await until(clock, lambda: uplink.status().state is UplinkState.THROTTLED)
        await until(clock, lambda: uplink.status().state is UplinkState.CONNECTED, within_s=5)
        await idle()
    assert len(link.started) == 1
    assert (len(backlog), uplink.status().counts.blocks_lost) == (0, 0)


async def test_a_connection_that_carried_something_starts_the_backoff_anew(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    receiver = MemoryReceiver()
    link = MemoryLink(receiver, connect_failures=[Unreachable("tunnel")] * 12)
    uplink = Uplink(link, backlog, clock, Random(1))
    async with running(uplink):
        await until(clock, lambda: uplink.status().connected)
        for base in range(10):
            backlog.add(a_block(Lane.P1, base, count=1))
            await idle()
            receiver.cut("memory")
            await idle()
            assert not uplink.status().connected
            await until(clock, lambda: uplink.status().connected, within_s=1.5)


async def test_a_receipt_that_outran_the_acceptance_leaves_nothing_to_wait_for(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    link = ScriptedLink(clock, [Move.STORE_BEFORE_ACCEPTING])
    uplink = Uplink(link, backlog, clock, Random(1))
    backlog.add(a_block(Lane.P1, 0))
    async with running(uplink):
        await until(clock, lambda: len(backlog) == 0 and uplink.status().counts.blocks_sent == 1)
        for _ in range(200):
            step(clock, 1.0)
            await idle(3)
    assert uplink.status().counts.attempts == 1


async def test_a_block_that_cannot_be_read_for_want_of_descriptors_goes_over_a_later_connection(
    clock: SteppingClock,
) -> None:
    class StarvedOnce(MemoryBacklog):
        async def load(self, ref: BlockRef) -> bytes:
            self.loads += 1
            if self.loads == 1:
                raise DiskStarved("too many files are open")
            return await super().load(ref)

        loads = 0

    backlog = StarvedOnce()
    backlog.add(a_block(Lane.P1, 0))
    async with running(Uplink(MemoryLink(MemoryReceiver()), backlog, clock, Random(1))):
        await until(clock, lambda: len(backlog) == 0)
    assert (backlog.loads, backlog.freed) == (2, 3)


async def test_a_bug_is_not_taken_for_a_network_problem(clock: SteppingClock) -> None:
    class Broken(MemoryBacklog):
        async def load(self, ref: object) -> bytes:
            raise KeyError("a bug")

    backlog = Broken()
    backlog.add(a_block(Lane.P1, 0))
    uplink = Uplink(MemoryLink(MemoryReceiver()), backlog, clock, Random(1))
    with pytest.raises(BaseExceptionGroup) as caught:
        await uplink.run()
    assert caught.group_contains(KeyError)
    assert uplink.status().state is UplinkState.STOPPED


async def test_at_ignition_off_p0_goes_and_nothing_else_and_then_all_is_quiet(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    receiver = MemoryReceiver()
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1))
    for lane in Lane:
        backlog.add(a_block(lane, 0))
    await uplink.last_call(3.0)
    assert [header_lane(block) for block in receiver.stored("memory")] == [Lane.P0]
    assert len(backlog) == 3
    assert uplink.status().state is UplinkState.STOPPED
    backlog.add(a_block(Lane.P0, 3))
    await idle()
    assert len(receiver.stored("memory")) == 1


async def test_a_last_call_waits_for_the_receipt_and_no_longer_than_it_may(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    # Mutation: hanging up after the publish, before the receiver has stored it.
    receiver = MemoryReceiver(commits_at_once=False)
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1))
    backlog.add(a_block(Lane.P0, 0))
    for commits in (False, True):
        calling = asyncio.ensure_future(uplink.last_call(3.0))
        await idle()
        step(clock, 2.9)
        await idle()
        assert not calling.done()
        if commits:
            receiver.commit()
        else:
            step(clock, 0.1)
        await idle()
        assert calling.done()
        assert len(backlog) == (0 if commits else 1)


async def test_without_p0_no_last_call_is_made_and_without_a_network_it_is_soon_over(
    clock: SteppingClock, backlog: MemoryBacklog
) -> None:
    link = ScriptedLink(clock, connect_failures=[Unreachable("tunnel")])
    uplink = Uplink(link, backlog, clock, Random(1))
    backlog.add(a_block(Lane.P1, 0))
    await uplink.last_call(3.0)
    assert link.connects == 0
    backlog.add(a_block(Lane.P0, 0))
    await uplink.last_call(3.0)
    assert (link.connects, len(backlog)) == (1, 2)


async def test_a_bug_in_a_last_call_is_not_taken_for_a_network_problem(clock: SteppingClock) -> None:
    class Broken(MemoryBacklog):
        async def load(self, ref: object) -> bytes:
            raise KeyError("a bug")

    backlog = Broken()
    backlog.add(a_block(Lane.P0, 0))
    with pytest.raises(BaseExceptionGroup) as caught:
        await Uplink(MemoryLink(MemoryReceiver()), backlog, clock, Random(1)).last_call(3.0)
    assert caught.group_contains(KeyError)
