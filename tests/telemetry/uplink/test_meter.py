"""What the two ways out share: no budget is passed, no pace is broken, and P0 waits for neither."""

from __future__ import annotations

import asyncio
import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ecu.clock import SECOND_NS, SteppingClock
from ecu.conditions import Network
from ecu.crashdisk import CrashDisk
from ecu.network import Reach, SettableNetwork
from telemetry.links.link import KEEP_ALIVE_S, Accepted, Throttled, Unreachable
from telemetry.links.memory import MemoryLink, MemoryReceiver
from telemetry.records import Lane
from telemetry.uplink import Uplink, UplinkState
from telemetry.uplink.daybook import DAY_NS, DayBook
from telemetry.uplink.downloads import CONNECT_OVERHEAD_BYTES
from telemetry.uplink.memory import MemoryBacklog
from telemetry.uplink.meter import BLOCK_OVERHEAD_BYTES, KEEP_ALIVE_BYTES, Meter, Passage
from telemetry.uplink.networks import MeteredRule, NetworkConfig, NetworkRule, RoamingRule
from telemetry.uplink.speed import LONGEST_QUEUE_NS
from telemetry.wire import MAX_BLOCK_BYTES
from tests.telemetry.uplink.scene import a_block, idle, running, until


def step(clock: SteppingClock, seconds: float) -> None:
    clock.advance(clock.boot_ns() + int(seconds * SECOND_NS))


def pass_through(meter: Meter, lane: Lane, size: int) -> None:
    meter.ended(meter.begin(lane, size))


def test_out_of_the_box_wifi_and_wire_let_all_go_cellular_no_bulk_and_roaming_p0_alone() -> None:
    config = NetworkConfig()
    lets = {network: [lane for lane in Lane if config.rule(network).lets(lane)] for network in Network}
    assert lets[Network.WIFI] == lets[Network.WIRED] == lets[Network.NONE] == list(Lane)
    assert lets[Network.METERED] == [Lane.P0, Lane.P1, Lane.P2]
    assert lets[Network.ROAMING] == [Lane.P0]
    assert all(config.rule(network).bytes_per_day for network in (Network.METERED, Network.ROAMING))


def test_a_setting_of_one_network_leaves_its_other_defaults() -> None:
    config = NetworkConfig.model_validate({"metered": {"kbit_s": 500}, "interfaces": {"usb*": "metered"}})
    assert config.metered == MeteredRule(kbit_s=500)
    assert config.metered.lanes == (Lane.P0, Lane.P1, Lane.P2)
    assert config.kinds() == {"usb*": Network.METERED}
    assert NetworkConfig.model_validate({"wifi": {"lanes": ["P0", "p1"]}}).wifi.lanes == (Lane.P0, Lane.P1)
    with pytest.raises(ValidationError):
        NetworkConfig.model_validate({"wifi": {"lanes": ["P9"]}})


@given(st.lists(st.tuples(st.sampled_from(list(Lane)), st.integers(1, MAX_BLOCK_BYTES)), max_size=300))
def test_no_more_than_the_budget_and_one_block_goes_in_a_day_and_p0_has_its_reserve(
    wanted: list[tuple[Lane, int]],
) -> None:
    # Mutation: a budget that P0 uses up for the others, or that the others use up for P0.
    rule = NetworkRule(bytes_per_day=1_000_000, p0_bytes_per_day=200_000)
    clock = SteppingClock()
    meter = Meter(clock, NetworkConfig(wifi=rule), SettableNetwork(Network.WIFI))
    others = all_of_it = 0
    for lane, size in wanted:
        if not meter.may_send(lane, size):
            continue
        pass_through(meter, lane, size)
        all_of_it += size
        others += size if lane is not Lane.P0 else 0
    assert others <= 1_000_000 + MAX_BLOCK_BYTES
    assert all_of_it <= 1_200_000 + MAX_BLOCK_BYTES
    if meter.held(Lane.P0) is None:
        assert meter.may_send(Lane.P0, MAX_BLOCK_BYTES)
    step(clock, DAY_NS / SECOND_NS)
    assert all(meter.may_send(lane, MAX_BLOCK_BYTES) for lane in Lane)


@given(st.lists(st.tuples(st.integers(1, 100_000), st.integers(0, 60)), min_size=2, max_size=60), st.floats(1, 100_000))
def test_over_any_time_no_more_than_its_rate_and_one_block_passes(wanted: list[tuple[int, int]], kbit_s: float) -> None:
    # Mutation: a line that was quiet for a minute isn't owed a minute's burst.
    clock = SteppingClock()
    meter = Meter(clock, NetworkConfig(wifi=NetworkRule(kbit_s=kbit_s)), SettableNetwork(Network.WIFI))
    began: list[tuple[int, int]] = []
    for size, quiet_s in wanted:
        step(clock, quiet_s)
        while not meter.may_send(Lane.P2, size):
            wakes_ns = meter.wakes_ns(Lane.P2)
            assert wakes_ns is not None
            clock.advance(wakes_ns)
        pass_through(meter, Lane.P2, size)
        began.append((clock.boot_ns(), size))
    for first, last in itertools.combinations(range(len(began)), 2):
        passed = sum(size for _, size in began[first:last])
        assert passed <= kbit_s * 125 * (began[last][0] - began[first][0]) / SECOND_NS + 1


def test_p0_waits_for_no_pace_and_the_others_pay_for_it() -> None:
    clock = SteppingClock()
    meter = Meter(clock, NetworkConfig(wifi=NetworkRule(kbit_s=8)), SettableNetwork(Network.WIFI))
    for _ in range(10):
        assert meter.may_send(Lane.P0, 1000)
        pass_through(meter, Lane.P0, 1000)
    assert not meter.may_send(Lane.P1, 1)
    step(clock, 10 * 1000 / 1000)
    assert not meter.may_send(Lane.P1, 1), "each of them is paid for"
    step(clock, 10 * (1000 + BLOCK_OVERHEAD_BYTES) * 1.05 / 1000)
    assert meter.may_send(Lane.P1, 1)


def test_one_thing_may_always_be_under_way_and_no_more_than_the_line_carries_soon() -> None:
    meter = Meter(SteppingClock())
    assert meter.may_send(Lane.P1, MAX_BLOCK_BYTES)
    passage = meter.begin(Lane.P1, MAX_BLOCK_BYTES)
    assert not meter.may_send(Lane.P1, 1000)
    assert meter.may_send(Lane.P0, MAX_BLOCK_BYTES)
    meter.failed(passage)
    assert meter.may_send(Lane.P1, 1000)


async def test_a_slice_waits_while_a_block_is_under_way_and_goes_when_it_is_answered() -> None:
    meter = Meter(SteppingClock())
    block = meter.begin(Lane.P2, MAX_BLOCK_BYTES)
    waiting = asyncio.ensure_future(meter.slice_turn(100_000))
    await idle()
    assert not waiting.done()
    meter.ended(block)
    await idle()
    passage = waiting.result()
    assert passage is not None
    assert 0 < passage.size <= 100_000


async def test_a_slice_that_gives_up_waiting_holds_no_record_back() -> None:
    # Mutation: a turn that is owed to nobody stops the records for ever.
    meter = Meter(SteppingClock())
    meter.records_wait(True)
    waiting = asyncio.ensure_future(meter.slice_turn(1000))
    await idle()
    for _ in range(8):
        pass_through(meter, Lane.P1, 50_000)
        if waiting.done():
            break
    waiting.cancel()
    await idle()
    assert meter.may_send(Lane.P1, 50_000)


async def test_who_waits_behind_an_owed_slice_is_told_when_it_has_become_longer() -> None:
    # Mutation: the slice waits for its part, the records for the slice, and nothing under way would wake either.
    clock = SteppingClock()
    meter = Meter(clock)
    first = meter.begin(Lane.P1, 8000)
    step(clock, 0.1)
    meter.ended(first)
    meter.records_wait(True)
    block = meter.begin(Lane.P1, 90_000)
    waiting = asyncio.ensure_future(meter.slice_turn(1_000_000))
    await idle()
    more = meter.begin(Lane.P1, 180_000)

    async def records() -> None:
        while not meter.may_send(Lane.P1, 1000):
            await meter.until_news(None)

    following = asyncio.ensure_future(records())
    await idle()
    assert not following.done()
    step(clock, 0.01)
    meter.ended(block)
    meter.ended(more)  # the line is seen to be fast: a slice is longer now than its part
    await idle()
    assert not waiting.done()
    assert following.done()
    waiting.cancel()


async def test_records_that_were_asked_for_patience_hold_no_object_back() -> None:
    # Mutation: what wanted the line when its link was throttled keeps it from objects for the hour that it lasts.
    clock, backlog = SteppingClock(), MemoryBacklog()
    meter = Meter(clock)
    for base in range(4):
        backlog.add(a_block(Lane.P2, base, count=1, padding=60_000))
    link = MemoryLink(MemoryReceiver(), failures=[Throttled("patience", after_s=3600)])
    async with running(Uplink(link, backlog, clock, Random(1), meter=meter)):
        await idle()
        assert len(backlog) == 4
        turn = asyncio.ensure_future(meter.slice_turn(10_000))
        await idle()
        assert turn.done()


async def test_records_whose_link_broke_hold_no_object_back() -> None:
    # Mutation: what wanted the line when its link broke keeps it from objects until the next link stands.
    clock, backlog, receiver = SteppingClock(), MemoryBacklog(), MemoryReceiver()
    meter = Meter(clock)
    backlog.add(a_block(Lane.P2, 0))
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1), meter=meter)
    block = meter.begin(Lane.P2, MAX_BLOCK_BYTES)
    async with running(uplink):
        await idle()
        waited = [meter.has_records_waiting]
        receiver.reachable = False
        receiver.cut("memory")
        await idle()
        assert [*waited, meter.has_records_waiting] == [True, False]
    meter.failed(block)


async def test_releases_go_once_their_network_is_back_however_short_it_was_away() -> None:
    # Mutation: who waits asks the computer, and who wakes it has another reading: it waits for ever.
    clock, network = SteppingClock(), SettableNetwork(Network.WIFI)
    meter = Meter(clock, NetworkConfig(), network)
    watching = asyncio.ensure_future(meter.watch())
    await idle()
    network.reach = Reach(Network.ROAMING, "wwan0")
    waiting = asyncio.ensure_future(meter.until_releases_let())
    await idle()
    assert not waiting.done()
    network.reach = Reach(Network.WIFI)
    for _ in range(3):
        step(clock, 1)
        await idle()
    assert waiting.done()
    watching.cancel()


async def test_a_network_that_does_not_let_objects_go_answers_who_waits_for_a_turn() -> None:
    clock, network = SteppingClock(), SettableNetwork(Network.WIFI)
    meter = Meter(clock, NetworkConfig(), network)
    block = meter.begin(Lane.P2, MAX_BLOCK_BYTES)
    waiting = asyncio.ensure_future(meter.slice_turn(1000))
    await idle()
    network.reach = Reach(Network.METERED, "wwan0")
    step(clock, 1)
    meter.failed(block)
    await idle()
    assert waiting.result() is None
    assert (meter.status().network, meter.status().interface) == ("metered", "wwan0")


async def test_the_uplink_says_which_network_or_day_it_waits_for_and_when_that_ends() -> None:
    clock, network = SteppingClock(boot_ns=1_000 * SECOND_NS), SettableNetwork(Network.ROAMING)
    meter = Meter(clock, NetworkConfig(roaming=RoamingRule(bytes_per_day=20_000)), network)
    backlog, receiver = MemoryBacklog(), MemoryReceiver()
    backlog.add(a_block(Lane.P1, 0))
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1), meter=meter)
    async with running(uplink):
        await idle()
        assert uplink.status().state is UplinkState.HELD_BACK
        assert uplink.status().connected
        assert uplink.status().reason == "P1 waits for another network: [network.roaming] lanes doesn't name it."
        backlog.add(a_block(Lane.P0, 0))
        await idle()
        assert len(receiver.stored("memory")) == 1, "P0 goes"
        network.reach = Reach(Network.WIFI)
        watching = asyncio.ensure_future(meter.watch())
        await until(clock, lambda: len(backlog) == 0, within_s=2)
        watching.cancel()
        assert uplink.status().state is UplinkState.CONNECTED


async def test_a_used_up_day_holds_records_back_until_it_ends_and_not_longer() -> None:
    clock = SteppingClock()
    meter = Meter(clock, NetworkConfig(), SettableNetwork(Network.METERED), DayBook.open(CrashDisk(), "n", clock, "b"))
    for _ in range(600):
        if meter.may_send(Lane.P2, 90_000):
            pass_through(meter, Lane.P2, 90_000)
            await meter.written()
    held = meter.held(Lane.P2)
    assert held is not None
    assert held.until_ns == DAY_NS
    assert 50_000_000 <= meter.status().gone_bytes <= 50_000_000 + 2 * 90_000
    backlog = MemoryBacklog()
    backlog.add(a_block(Lane.P2, 0))
    uplink = Uplink(MemoryLink(MemoryReceiver()), backlog, clock, Random(1), meter=meter)
    async with running(uplink):
        step(clock, DAY_NS / SECOND_NS - 1)
        await idle()
        assert (uplink.status().state, len(backlog)) == (UplinkState.HELD_BACK, 1)
        assert "P2 waits until the day ends" in uplink.status().reason
        step(clock, 1.1)
        async with asyncio.timeout(10):
            while len(backlog):  # what is about to go is written down first, by a thread
                await asyncio.sleep(0.001)
        assert uplink.status().state is UplinkState.CONNECTED


async def test_what_a_broken_connection_had_under_way_takes_no_room_from_the_next() -> None:
    clock, receiver, backlog = SteppingClock(), MemoryReceiver(commits_at_once=False), MemoryBacklog()
    meter = Meter(clock)
    for base in range(20):
        backlog.add(a_block(Lane.P2, base, count=1, padding=3000))
    uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1), meter=meter)
    for _ in range(5):
        async with running(uplink):
            await idle(3)
        uplink = Uplink(MemoryLink(receiver), backlog, clock, Random(1), meter=meter)
    assert meter.may_send(Lane.P2, MAX_BLOCK_BYTES)


async def test_a_day_of_calls_that_nobody_answers_leaves_p0_its_reserve() -> None:
    # Mutation: each call counted as a whole handshake uses up a roaming day, and P0's part of it, for nothing.
    clock = SteppingClock()
    link = MemoryLink(MemoryReceiver(), connect_failures=itertools.repeat(Unreachable("tunnel"), 10_000))
    meter = Meter(clock, NetworkConfig(), SettableNetwork(Network.ROAMING))
    uplink = Uplink(link, MemoryBacklog(), clock, Random(1), meter=meter)
    async with running(uplink):
        for _ in range(24 * 12):
            step(clock, 299)
            await idle(8)
    assert uplink.status().counts.attempts > 200
    assert 0 < meter.status().gone_bytes < 300_000
    assert meter.held(Lane.P0) is None


async def test_a_link_that_stands_all_day_pays_for_its_keep_alives() -> None:
    # Mutation: half a megabyte a day that no budget knows of.
    clock = SteppingClock()
    meter = Meter(clock, NetworkConfig(), SettableNetwork(Network.METERED))
    uplink = Uplink(MemoryLink(MemoryReceiver()), MemoryBacklog(), clock, Random(1), meter=meter)
    async with running(uplink):
        await idle()
        before = meter.status().gone_bytes
        for _ in range(2 * 60):
            step(clock, KEEP_ALIVE_S)
            await idle()
        assert meter.status().gone_bytes - before == 120 * KEEP_ALIVE_BYTES


async def test_a_start_after_each_connection_is_refunded_none_of_them() -> None:
    # Mutation: a connection's bytes known to memory alone: a daemon that dies soon after each connects for nothing.
    disk, clock, starts = CrashDisk(), SteppingClock(), 10
    for _ in range(starts):
        days = DayBook.open(disk, "n", clock, "b")
        meter = Meter(clock, NetworkConfig(), SettableNetwork(Network.ROAMING), days)
        uplink = Uplink(MemoryLink(MemoryReceiver()), MemoryBacklog(), clock, Random(1), meter=meter)
        async with running(uplink), asyncio.timeout(10):
            while not uplink.status().connected:
                await asyncio.sleep(0.001)
    gone = DayBook.open(disk, "n", clock, "b").gone("roaming", 1_000_000)
    assert starts * CONNECT_OVERHEAD_BYTES <= gone


class ReadingLink(MemoryLink):
    """Reads at each block what a start after a kill would find."""

    def __init__(self, disk: CrashDisk, clock: SteppingClock) -> None:
        super().__init__(MemoryReceiver())
        self.disk, self.clock, self.sent = disk, clock, 0

    async def publish(self, lane: Lane, block: bytes) -> Accepted:
        self.sent += len(block)
        assert DayBook.open(self.disk, "n", self.clock, "b").gone("roaming", 1_000_000) >= self.sent
        return await super().publish(lane, block)


async def test_no_block_goes_before_flash_knows_of_it() -> None:
    # Mutation: what went written down after it went, or with the next connection.
    disk, clock, backlog = CrashDisk(), SteppingClock(), MemoryBacklog()
    for base in range(5):
        backlog.add(a_block(Lane.P0, base, count=1, padding=60_000))
    meter = Meter(clock, NetworkConfig(), SettableNetwork(Network.ROAMING), DayBook.open(disk, "n", clock, "b"))
    uplink = Uplink(link := ReadingLink(disk, clock), backlog, clock, Random(1), meter=meter)
    async with running(uplink), asyncio.timeout(10):
        while len(backlog):
            await asyncio.sleep(0.001)
    assert link.sent > 100_000


async def test_with_the_day_used_up_to_its_last_byte_nobody_connects_until_it_ends() -> None:
    # Mutation: a connection every five minutes abroad, over which nothing may go.
    clock, rule = SteppingClock(), RoamingRule(bytes_per_day=20_000, p0_bytes_per_day=0)
    meter = Meter(clock, NetworkConfig(roaming=rule), SettableNetwork(Network.ROAMING))
    pass_through(meter, Lane.P0, 20_000)
    uplink = Uplink(MemoryLink(MemoryReceiver()), MemoryBacklog(), clock, Random(1), meter=meter)
    async with running(uplink):
        step(clock, DAY_NS / SECOND_NS - 1)
        await idle()
        assert uplink.status().counts.attempts == 0
        assert "P0 waits until the day ends" in uplink.status().reason
        step(clock, 1)
        await idle()
        assert uplink.status().connected


@pytest.mark.parametrize("size", [2_000, 20_000, 40_000, 95_000])
def test_blocks_of_any_size_keep_a_narrow_line_busy_and_its_queue_short(size: int) -> None:
    # Mutation: waiting for the answer of the one block that fits; guesses of when it left that add up.
    clock, bytes_per_s, round_trip_ns = SteppingClock(), 125_000, 40 * 1_000_000
    meter = Meter(clock)
    takes_ns = size * SECOND_NS // bytes_per_s
    answers: list[tuple[int, Passage]] = []
    line_free_ns = busy_ns = 0
    longest_ns = 0
    while clock.boot_ns() < 60 * SECOND_NS:
        if len(answers) < 14 and meter.may_send(Lane.P2, size):
            line_free_ns = max(line_free_ns, clock.boot_ns()) + takes_ns
            busy_ns += takes_ns
            longest_ns = max(longest_ns, line_free_ns - clock.boot_ns())
            answers.append((line_free_ns + round_trip_ns, meter.begin(Lane.P2, size)))
            continue
        wakes_ns = meter.wakes_ns(Lane.P2)
        if wakes_ns is not None and wakes_ns < answers[0][0]:
            clock.advance(wakes_ns)
        else:
            at_ns, passage = answers.pop(0)
            clock.advance(max(clock.boot_ns(), at_ns))
            meter.ended(passage)
    assert busy_ns / line_free_ns >= 0.95
    assert longest_ns <= max(LONGEST_QUEUE_NS, 1.3 * takes_ns)


def test_what_one_network_carried_says_nothing_of_the_next() -> None:
    clock, network = SteppingClock(), SettableNetwork(Network.WIFI)
    meter = Meter(clock, NetworkConfig(), network)
    passage = meter.begin(Lane.P2, MAX_BLOCK_BYTES)
    step(clock, 0.1)
    meter.ended(passage)
    assert meter.status().bytes_per_s is not None
    network.reach = Reach(Network.METERED, "wwan0")
    step(clock, 1)
    assert meter.may_send(Lane.P0, 1)
    assert meter.status().bytes_per_s is None
