"""The spool through every power cut, kill and fault that its disk can have: nothing confirmed is ever lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.keys import MemoryKeyStore
from telemetry.records import Lane, Purpose
from telemetry.spool.counts import MemoryCounters
from tests.telemetry.spool.rig import SMALL, Key, Rig, key_of, record

KEYS = MemoryKeyStore()


@dataclass(frozen=True)
class Moment:
    """What had been promised when a mark was set."""

    confirmed: frozenset[Key] = frozenset()
    acknowledged: frozenset[Key] = frozenset()
    written: int = 0
    evicted: int = 0


class Story:
    """Tells one life of a spool to a CrashDisk, marking each promise; then judges what any power cut left of it."""

    def __init__(self, tell: Callable[[Story], None]) -> None:
        self._tell = tell
        self.rig: Rig
        self.moments: list[Moment] = []

    def scenario(self, disk: CrashDisk) -> None:
        self.moments = [Moment()]
        self.disk = disk
        self.rig = Rig(disk, keys=KEYS, seed=1)
        self.before = self.durable(self.rig)
        self._tell(self)
        self.names = dict(self.rig.confirmed)

    def put(self, *numbers: int, lane: Lane = Lane.P1, size: int = 10, purpose: Purpose = Purpose.PERCEPTION) -> None:
        self.rig.offer(*(record(n, lane, purpose, size) for n in numbers))
        self._promise()
        self.rig.commit()
        self._promise()

    def acknowledge(self, blocks: int) -> None:
        self.rig.acknowledge(*self.rig.blocks()[:blocks])
        self._promise()

    def close(self) -> None:
        self.rig.spool.close()

    def open_again(self) -> None:
        self.rig.open()

    def _promise(self) -> None:
        freed = sum(lane.acknowledged for lane in self.rig.spool.counts().lanes)
        evicted = sum(sum(lane.evicted.values()) for lane in self.rig.spool.counts().lanes)
        self.moments.append(
            Moment(frozenset(self.rig.confirmed), frozenset(self.rig.stored), self.rig.offered, evicted)
        )
        assert freed <= len(self.rig.stored) + self.before
        self.disk.mark(str(len(self.moments) - 1))

    def durable(self, rig: Rig) -> int:
        return sum(lane.durable for lane in rig.spool.counts().lanes)

    def law(self, state: CrashState) -> None:
        moment = self.moments[max((int(mark) for mark in state.acknowledged), default=0)]
        rig = Rig(state.disk, MemoryCounters(was_lost=True), keys=KEYS, seed=2)
        counts = rig.spool.counts()
        assert counts.holds
        assert not any(lane.quarantined for lane in counts.lanes), "a power cut isn't damage"
        durable = self.durable(rig) - self.before
        assert len(moment.confirmed) <= durable, "durable records were forgotten"
        assert durable <= self.rig.offered, "records were counted twice"

        there = {key_of(item): item.digest for item in rig.read()}
        assert len(there) == sum(lane.spooled for lane in counts.lanes)
        assert all(self.names.get(key, digest) == digest for key, digest in there.items()), "a name changed its record"
        evicted = sum(sum(lane.evicted.values()) for lane in counts.lanes)
        lost = moment.confirmed - there.keys() - moment.acknowledged
        assert len(lost) <= evicted, f"{len(lost)} confirmed records are gone"

        rig.put(record(1001), record(1002, Lane.P0))
        assert not rig.confirmed.keys() & self.names.keys(), "a name was given out a second time"
        rig.drain()
        assert rig.read() == []
        assert rig.spool.counts().holds


def prepared() -> CrashDisk:
    """A spool with some history: its keys are made, and it has free segments with old blocks in them."""
    disk = CrashDisk()
    rig = Rig(disk, keys=KEYS, seed=0)
    rig.put(*(record(n, size=3000) for n in range(3)), record(3, Lane.P0))
    rig.drain()
    rig.spool.close()
    return disk.after_shutdown()


def commits(story: Story) -> None:
    story.put(1, 2)
    story.put(3, size=3000)
    story.put(4, 5, lane=Lane.P0)


def life(story: Story) -> None:
    story.put(1, 2)
    story.put(3, size=3000)
    story.acknowledge(1)
    story.put(4, 5, size=3000)
    story.acknowledge(2)
    story.put(6)


@pytest.mark.parametrize("tell", [commits, life])
def test_no_power_cut_loses_a_confirmed_record_or_gives_its_name_away(tell: Callable[[Story], None]) -> None:
    story = Story(tell)
    assert violation(story.scenario, story.law, prepared()) is None
