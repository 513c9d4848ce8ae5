"""Any life of a spool, of any length: law 1 holds at every step, and every confirmed record is in exactly one place."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskError, DiskFault, DiskFull
from telemetry.records import Lane, Purpose
from telemetry.wire import Receipt
from tests.telemetry.spool.rig import Key, Rig, key_of, receipt_for, record, records_of

LANES = st.sampled_from(Lane)
PURPOSES = st.sampled_from([Purpose.DRIVING, Purpose.PERCEPTION])


class SpoolLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.disk = CrashDisk()
        self.rig = Rig(self.disk)
        self.acknowledged: set[Key] = set()

    @rule(lane=LANES, purpose=PURPOSES, sizes=st.lists(st.sampled_from([2, 50, 2000, 7000, 20_000]), max_size=6))
    def offer(self, lane: Lane, purpose: Purpose, sizes: list[int]) -> None:
        self.rig.offer(*(record(self.rig.offered + i, lane, purpose, size) for i, size in enumerate(sizes)))

    @rule()
    def commit(self) -> None:
        self.rig.commit()

    @rule(count=st.integers(1, 5), acknowledged=st.booleans())
    def send(self, count: int, acknowledged: bool) -> None:
        for ref in self.rig.blocks()[:count]:
            self.rig.send(ref)
            if acknowledged:
                self.rig.spool.acknowledge(receipt_for(ref))

    @rule(lane=LANES, start=st.integers(0, 9), length=st.integers(1, 9))
    def hear_an_odd_receipt(self, lane: Lane, start: int, length: int) -> None:
        for ref in self.rig.lane_blocks(lane)[:1]:
            self.rig.spool.acknowledge(Receipt(lane, ref.epoch, ((start, start + length),)))

    @rule(lane=LANES)
    def refuse(self, lane: Lane) -> None:
        for ref in self.rig.lane_blocks(lane)[:1]:
            self.rig.spool.quarantine(ref, "no")

    @rule(purpose=PURPOSES)
    def erase(self, purpose: Purpose) -> None:
        self.rig.spool.withdraw(purpose)
        self.rig.spool.erase(purpose)
        assert not any(ref.purpose is purpose for ref in self.rig.blocks())

    @rule(error=st.sampled_from([DiskFault("worn"), DiskFull("full")]), skip=st.integers(0, 12))
    def commit_while_one_call_fails(self, error: DiskError, skip: int) -> None:
        self.disk.fail(len(self.disk.calls) + skip, error)
        self.rig.commit()
        self.disk.heal()

    @rule()
    def die_and_start(self) -> None:
        self.rig.open()

    @rule()
    def end_and_start(self) -> None:
        self.rig.spool.close()
        self.rig.open()

    @invariant()
    def law_1_holds(self) -> None:
        assert self.rig.spool.counts().holds
        assert sum(lane.offered for lane in self.rig.spool.counts().lanes) == self.rig.offered

    @invariant()
    def nothing_is_called_damaged(self) -> None:
        counts = self.rig.spool.counts()
        assert not any(lane.quarantined.keys() - {"refused"} for lane in counts.lanes)
        assert counts.flash_bytes <= self.rig.limits.max_bytes

    def teardown(self) -> None:
        items = [item for ref in self.rig.blocks() for item in records_of(self.rig.spool.load(ref))]
        there = {key_of(item): item.digest for item in items}
        assert len(there) == len(items), "a record lies there twice"
        known = self.rig.confirmed
        assert all(known.get(key, digest) == digest for key, digest in there.items())
        counts = self.rig.spool.counts()
        gone = sum(sum(lane.evicted.values()) + sum(lane.quarantined.values()) + lane.erased for lane in counts.lanes)
        assert len(known.keys() - there.keys() - self.rig.stored.keys()) <= gone


SpoolLife.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestSpoolLife = SpoolLife.TestCase
