"""The outbox says that the spool has an update only when it has, and never hands it over twice."""

from __future__ import annotations

import os

from agent.learning.outbox import SpoolOutbox
from ecu.clock import SECOND_NS, SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFull
from ecu.keys import MemoryKeyStore
from telemetry.federated.update import ModelUpdate
from telemetry.records import Lane, Learned, Record, record_of
from telemetry.spool import Spool, SpoolKeeper
from telemetry.spool.counts import MemoryCounters
from telemetry.spool.limits import SpoolLimits

HASH = "0" * 64
LIMITS = SpoolLimits(max_bytes=1 << 20, segment_bytes=1 << 16, reserve_segments=(1, 1, 1, 1))


def learned(seq: int, at_ns: int = 0) -> Record:
    return record_of(at_ns, Learned(ModelUpdate("lights", HASH, HASH, HASH, seq, b"x" * 500, b"signature")))


class Scene:
    def __init__(self, limits: SpoolLimits = LIMITS) -> None:
        self.disk, self.clock = CrashDisk(), SteppingClock(SECOND_NS)
        spool = Spool.open(self.disk, MemoryKeyStore(), self.clock, os.urandom, limits, MemoryCounters())
        self.keeper = SpoolKeeper(spool, self.clock)
        self.outbox = SpoolOutbox(self.keeper)

    def fills_up(self) -> None:
        self.disk.fail(lambda call: call.act in ("create", "write_at"), DiskFull("full"))

    @property
    def lane(self) -> tuple[int, int]:
        counts = self.keeper.counts().lanes[Lane.P3]
        return counts.pending, counts.durable


async def test_what_waits_for_flash_waits_once_however_often_it_is_offered() -> None:
    scene = Scene()
    scene.fills_up()
    for minute in range(10):
        assert not await scene.outbox(learned(1, minute))
        scene.clock.advance(scene.clock.boot_ns() + 60 * SECOND_NS)
    assert scene.lane == (1, 0)
    scene.disk.heal()
    scene.clock.advance(scene.clock.boot_ns() + 60 * SECOND_NS)
    assert await scene.outbox(learned(1, 99))
    assert scene.lane == (0, 1)


async def test_the_next_update_is_another() -> None:
    scene = Scene()
    assert await scene.outbox(learned(1))
    assert await scene.outbox(learned(2))
    assert await scene.outbox(learned(2)), "whoever offers it again after that has forgotten that it was kept"
    assert scene.lane == (0, 3)


async def test_where_something_was_dropped_meanwhile_it_is_offered_again() -> None:
    """It may have been this one, and an update that is told twice is taken once."""
    scene = Scene(LIMITS.model_copy(update={"queue_records": 1}))
    scene.fills_up()
    assert not await scene.outbox(learned(1))
    assert not scene.keeper.offer(learned(9)), "there is room for one"
    scene.disk.heal()
    scene.clock.advance(scene.clock.boot_ns() + 60 * SECOND_NS)
    await scene.keeper.flush()
    held = scene.lane[1]
    assert await scene.outbox(learned(1))
    assert scene.lane == (0, held + 1)
