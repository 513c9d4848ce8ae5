"""Both ways out over one meter, whatever fails: what was taken is given back, and nobody waits for ever (law 9)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecu.clock import SECOND_NS, SteppingClock
from ecu.conditions import Network
from ecu.network import Reach, SettableNetwork
from telemetry.links.link import LinkError, Throttled, Unauthorized, Unreachable
from telemetry.objects.config import ObjectsConfig
from telemetry.objects.memory import MemoryObjectLink, MemoryObjects, MemoryReceiver
from telemetry.objects.uplink import ObjectUplink
from telemetry.records import Lane
from telemetry.uplink import Uplink
from telemetry.uplink.memory import MemoryBacklog
from telemetry.uplink.meter import Meter
from telemetry.uplink.networks import MeteredRule, NetworkConfig
from telemetry.wire import MAX_BLOCK_BYTES
from tests.telemetry.uplink.scene import CONNECT_FAILURES, HASTY, Move, ScriptedLink, a_block, idle, running

CONFIG = ObjectsConfig(bytes_per_s=1_000_000)
RULES = NetworkConfig(metered=MeteredRule(lanes=tuple(Lane), kbit_s=400))
STEP_NS = SECOND_NS // 2
Failure = LinkError | None


@dataclass(frozen=True)
class Drive:
    """What waits to go, how each way fails, and at each step, while it lasts, what happens to the vehicle."""

    blocks: Sequence[tuple[Lane, int]]
    moves: Sequence[Move]
    connect_failures: Sequence[LinkError]
    objects: Sequence[int]
    failures: Sequence[Failure]
    second_failures: Sequence[Failure]
    happens: Sequence[Network | None]
    """Another network; None: the way out of objects ends, and another begins."""
    seed: int


a_failure = st.sampled_from([None, None, Unreachable("x"), Throttled("x", 1.0), Unauthorized("x")])
drives = st.builds(
    Drive,
    blocks=st.lists(st.tuples(st.sampled_from(Lane), st.sampled_from([10, 3000, 60_000])), max_size=30),
    moves=st.lists(st.sampled_from([move for move in Move if move is not Move.FORGE_RECEIPT]), max_size=30),
    connect_failures=st.lists(st.sampled_from(CONNECT_FAILURES), max_size=3),
    objects=st.lists(st.integers(1, 150_000), max_size=4),
    failures=st.lists(a_failure, max_size=8),
    second_failures=st.lists(a_failure, max_size=8),
    happens=st.lists(st.sampled_from([*Network, None]), max_size=12),
    seed=st.integers(0, 1 << 32),
)


class Vehicle:
    def __init__(self, drive: Drive) -> None:
        self.chance = Random(drive.seed)
        self.clock = SteppingClock()
        self.network = SettableNetwork(Network.WIFI)
        self.meter = Meter(self.clock, RULES, self.network)
        self.backlog, self.objects = MemoryBacklog(), MemoryObjects()
        self.records = Uplink(
            ScriptedLink(self.clock, drive.moves, (), drive.connect_failures, self.chance),
            self.backlog, self.clock, self.chance, HASTY, meter=self.meter,
        )  # fmt: skip
        receiver = MemoryReceiver()
        self.links = [MemoryObjectLink(receiver, iter(f)) for f in (drive.failures, drive.second_failures)]
        self.begin()

    def begin(self) -> None:
        self.bulk = ObjectUplink(
            self.links[0], self.objects, self.clock, self.chance, CONFIG, HASTY, self.meter, second=self.links[1]
        )
        self.running = asyncio.create_task(self.bulk.run())

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.wait((self.running,))

    async def step(self) -> None:
        """A little time, and its threads have done what they were given."""
        self.clock.advance(self.clock.boot_ns() + STEP_NS)
        for _ in range(6):
            await idle(10)
            loop = asyncio.get_running_loop()
            if not self.running.done():
                await asyncio.gather(*(loop.run_in_executor(hand.network, int) for hand in self.bulk._hands))

    async def meet(self, happening: Network | None) -> None:
        if happening is None:
            await self.end()
            self.begin()
        else:
            self.network.reach = Reach(happening)

    @property
    def is_drained(self) -> bool:
        """A link that asked for patience with the last block keeps its place in the window for so long."""
        is_empty = len(self.backlog) == 0 and self.objects.oldest() is None
        is_quiet = self.meter.is_quiet and not self.meter.has_records_waiting
        is_free = all(self.meter.may_send(lane, MAX_BLOCK_BYTES) for lane in Lane)
        return is_empty and is_quiet and is_free and self.records.status().in_flight == 0


async def travel(drive: Drive) -> None:
    vehicle = Vehicle(drive)
    ends = dict.fromkeys(Lane, 0)
    for lane, padding in drive.blocks:
        vehicle.backlog.add(a_block(lane, ends[lane], 1, padding))
        ends[lane] += 1
    for number, size in enumerate(drive.objects):
        vehicle.objects.add(Random(number).randbytes(size))
    watching = asyncio.create_task(vehicle.meter.watch())
    async with running(vehicle.records):
        for happening in drive.happens:
            await vehicle.meet(happening)
            await vehicle.step()
        vehicle.network.reach = Reach(Network.WIFI)
        for _ in range(600):
            if vehicle.is_drained:
                break
            await vehicle.step()
        assert vehicle.is_drained, (vehicle.records.status(), vehicle.bulk.status(), vars(vehicle.meter))
    await vehicle.end()
    watching.cancel()


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(drives)
def test_once_failures_end_both_ways_out_drain_and_the_line_is_quiet(drive: Drive) -> None:
    # Mutations: a slice's or a block's place given back in its own course alone; a slice that waits after it gave up; a
    # change of the line that nobody is told of.
    asyncio.run(travel(drive))
