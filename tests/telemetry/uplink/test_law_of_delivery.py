"""The uplink over every kind of bad network that a script can play (laws 1, 6 and 9)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecu.clock import SteppingClock
from telemetry.links.link import LinkError
from telemetry.records import Lane
from telemetry.uplink import Uplink
from telemetry.uplink.memory import MemoryBacklog
from telemetry.wire import Receipt
from tests.telemetry.uplink.scene import (
    CONNECT_FAILURES,
    HASTY,
    Key,
    Move,
    ScriptedLink,
    a_block,
    key_of,
    running,
    until,
)


class WatchedBacklog(MemoryBacklog):
    """Knows what the receiver has, and lets no record go that it hasn't."""

    def __init__(self, link: ScriptedLink) -> None:
        super().__init__()
        self._link = link
        self._all: set[Key] = set()

    def offer(self, block: bytes) -> None:
        self.add(block)
        self._all.add(key_of(block))

    async def acknowledge(self, receipt: Receipt) -> int:
        freed = await super().acknowledge(receipt)
        gone = self._all - self._held.keys() - self.quarantined.keys()
        assert gone <= self._link.stored.keys(), "freed what the receiver doesn't have"
        return freed


@dataclass(frozen=True)
class Journey:
    """Blocks by lane with their record counts, which of them are poison, and what the network does."""

    counts: Sequence[tuple[Lane, int, bool]]
    moves: Sequence[Move]
    connect_failures: Sequence[LinkError]
    late: int
    seed: int

    def blocks(self) -> list[tuple[bytes, bool]]:
        ends = dict.fromkeys(Lane, 0)
        blocks = []
        for lane, count, poison in self.counts:
            blocks.append((a_block(lane, ends[lane], count), poison))
            ends[lane] += count
        return blocks


# A forged receipt names everything up to 2**40: what was sent but isn't stored would be freed by it. Only the
# receiver is believed (law 6), so a lying receiver has its own test below.
HONEST = [move for move in Move if move is not Move.FORGE_RECEIPT]

journeys = st.builds(
    Journey,
    counts=st.lists(st.tuples(st.sampled_from(Lane), st.integers(1, 5), st.booleans()), max_size=40),
    moves=st.lists(st.sampled_from(HONEST), max_size=60),
    connect_failures=st.lists(st.sampled_from(CONNECT_FAILURES), max_size=6),
    late=st.integers(0, 40),
    seed=st.integers(0, 1 << 32),
)


async def travel(journey: Journey) -> tuple[WatchedBacklog, ScriptedLink, Uplink]:
    clock = SteppingClock()
    blocks = journey.blocks()
    poison = [key_of(block) for block, bad in blocks if bad]
    chance = Random(journey.seed)
    link = ScriptedLink(clock, journey.moves, poison, journey.connect_failures, chance)
    backlog = WatchedBacklog(link)
    uplink = Uplink(link, backlog, clock, chance, HASTY)
    early, late = blocks[journey.late :], blocks[: journey.late]
    for block, _ in early:
        backlog.offer(block)
    async with running(uplink) as task:
        await until(clock, lambda: task.done() or uplink.status().connected)
        for block, _ in late:
            backlog.offer(block)
        await until(clock, lambda: task.done() or len(backlog) == 0)
    publishes = len(link.started)
    backlog.offer(a_block(Lane.P0, 1 << 20))
    clock.advance(clock.boot_ns() + 10**12)
    await asyncio.sleep(0)
    assert len(link.started) == publishes, "something was sent after close"
    return backlog, link, uplink


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(journeys)
def test_every_block_is_acknowledged_once_in_effect_and_every_poison_quarantined_once(journey: Journey) -> None:
    # Mutations this caught while it was written: publishing before mark_sent (receipts ignored, never drained),
    # no receipt time-out (LOSE_RECEIPT hangs), a throttled block not sent again, a refused one left at the head.
    backlog, link, uplink = asyncio.run(travel(journey))
    good = [key_of(block) for block, bad in journey.blocks() if not bad]
    bad = [key_of(block) for block, bad in journey.blocks() if bad]
    assert sorted(link.stored) == sorted(good)
    assert sorted(backlog.quarantined) == sorted(bad)
    assert backlog.freed == sum(count for _, count, poison in journey.counts if not poison)
    assert uplink.status().counts.records_freed == backlog.freed
    assert uplink.status().counts.blocks_refused >= len(bad)
    assert link.most_in_flight <= HASTY.window
    assert uplink.status().in_flight == 0


async def test_a_receipt_beyond_what_was_sent_frees_nothing_of_it_and_is_counted() -> None:
    clock = SteppingClock()
    link = ScriptedLink(clock, [Move.FORGE_RECEIPT])
    backlog = MemoryBacklog()
    first = a_block(Lane.P1, 0, count=3)
    backlog.add(first)
    uplink = Uplink(link, backlog, clock, Random(1), HASTY)
    async with running(uplink):
        await until(clock, lambda: len(backlog) == 0)
        assert backlog.freed == 3
        assert uplink.status().counts.receipts_beyond_sent == 1
        backlog.add(a_block(Lane.P1, 3, count=2))
        await until(clock, lambda: len(backlog) == 0)
    assert len(link.stored) == 2, "the second block was freed by a receipt that came before it was sent"


async def test_what_is_lost_to_corruption_or_eviction_holds_nobody_up() -> None:
    clock = SteppingClock()
    link = ScriptedLink(clock, [Move.THROTTLE])
    backlog = MemoryBacklog()
    evicted, rotten, whole = (backlog.add(a_block(Lane.P2, base)) for base in (0, 3, 6))
    backlog.corrupt(rotten)
    uplink = Uplink(link, backlog, clock, Random(1), HASTY)
    async with running(uplink):
        await until(clock, lambda: uplink.status().state == "throttled")
        backlog.evict(evicted)
        await until(clock, lambda: len(backlog) == 0 and uplink.status().counts.blocks_lost == 2)
    assert list(link.stored) == [(whole.lane, whole.epoch, whole.base_seq)]
    assert list(backlog.quarantined) == [(rotten.lane, rotten.epoch, rotten.base_seq)]
