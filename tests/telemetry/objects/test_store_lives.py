"""The object store over many lives: killed, on disks that fail, begun again, its accounts still hold."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskError, RealDisk
from ecu.keys import MemoryKeyStore
from ecu.ledger import Ledger
from telemetry.objects.config import ObjectsConfig
from telemetry.objects.counts import LEDGER_NAMES
from telemetry.objects.errors import NotKept, ObjectGone
from telemetry.objects.format import OVERHEAD_BYTES
from telemetry.records import Purpose
from tests.telemetry.objects.rig import (
    FAULTS,
    SMALL,
    Rig,
    calls_of,
    content,
    no_counters,
    objects_in,
    rig_with_history,
)


class Killed(BaseException):
    """SIGKILL: nobody catches it, and the page cache stays."""


def test_a_kill_at_any_call_of_a_put_is_counted_and_forgets_nothing() -> None:
    """The counters outlive a kill, so what it held in its hand is known: cut short, or there after all."""
    for index in range(len(calls_of(lambda rig: rig.put(9)))):
        rig, disk = rig_with_history()
        before = rig.contents()
        disk.fail(len(disk.calls) + index, Killed())
        with contextlib.suppress(Killed):
            rig.put(9)
        disk.heal()
        rig.open()
        counts = rig.counts()
        assert counts.offered == 5
        assert counts.dropped in ({}, {"cut_short": 1})
        assert counts.damaged == {}
        assert len(before - rig.contents()) == counts.evicted <= (counts.kept == 4)
        assert not [name for name in disk.names("") if name.endswith(".tmp")]


def test_a_kill_at_any_call_of_a_departure_is_counted_once() -> None:
    # Mutation: removing the file before the books say so counts it as missing.
    acts: list[Callable[[Rig], object]] = [
        lambda rig: rig.store.stored(rig.store.kept()[0]),
        lambda rig: rig.store.erase(Purpose.PERCEPTION),
    ]
    for act in acts:
        for index in range(len(calls_of(act))):
            rig, disk = rig_with_history()
            disk.fail(len(disk.calls) + index, Killed())
            with contextlib.suppress(Killed):
                act(rig)
            disk.heal()
            rig.open()
            counts = rig.counts()
            assert (counts.offered, counts.damaged) == (4, {})
            assert counts.kept + counts.stored + counts.erased == 4
            assert counts.stored in (0, 1)
            assert counts.erased in (0, 4)


def test_an_erasure_that_was_cut_short_is_beyond_recall_after_the_next_start() -> None:
    # Mutation: a start that only removes the files leaves the key to whoever copied them.
    for index in range(len(calls_of(lambda rig: rig.store.erase(Purpose.PERCEPTION)))):
        rig, disk = rig_with_history()
        copies = {name: disk.read(name) for name in objects_in(disk)}
        disk.fail(len(disk.calls) + index, Killed())
        with contextlib.suppress(Killed):
            rig.store.erase(Purpose.PERCEPTION)
        disk.heal()
        rig.open()
        if rig.counts().erased:
            for name, data in copies.items():
                disk.create(name)
                disk.write_at(name, 0, data)
            rig.open()
            assert rig.store.kept() == (), index


def test_the_counters_of_a_real_ledger_outlive_the_process(tmp_path: Path) -> None:
    def life() -> Rig:
        ledger = Ledger.open(tmp_path / "objects.ledger", LEDGER_NAMES, b"boot")
        return Rig(RealDisk(tmp_path / "objects"), ledger, keys=keys, seed=len(list(tmp_path.iterdir())))

    keys = MemoryKeyStore()
    rig = life()
    rig.put(1)
    with pytest.raises(NotKept):
        rig.put(2, size=0)
    assert isinstance(rig.counters, Ledger)
    rig.counters.close()
    counts = life().counts()
    assert (counts.offered, counts.kept, counts.dropped, counts.ledger_lost) == (2, 1, {"empty": 1}, False)


def test_a_planned_end_writes_down_what_was_dropped() -> None:
    rig = Rig()
    with pytest.raises(NotKept):
        rig.put(1, size=0)
    rig.store.close()
    rig.counters = no_counters(was_lost=True)
    rig.open()
    counts = rig.counts()
    assert (counts.offered, counts.dropped, counts.ledger_lost) == (1, {"empty": 1}, True)


def test_many_threads_put_read_and_look_and_every_look_adds_up() -> None:
    rig = Rig(limits=ObjectsConfig(max_bytes=100_000, object_bytes=1000))
    broken: list[object] = []

    def put(first: int) -> None:
        for number in range(first, first + 20):
            ref = rig.put(number)
            if rig.read(ref) != content(number) or not rig.store.stored(ref):
                broken.append(ref)

    def look() -> None:
        while not done.is_set():
            counts = rig.store.counts()
            if not counts.conservation.holds:
                broken.append(counts)

    done = threading.Event()
    looker = threading.Thread(target=look)
    threads = [threading.Thread(target=put, args=(first,)) for first in (0, 100, 200)]
    looker.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    looker.join()
    assert broken == []
    assert (rig.counts().stored, rig.counts().kept) == (60, 0)


class Conserved(RuleBasedStateMachine):
    """Any order of acts, any of them failing or killed: every picture is counted once, and what is kept is read."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = CrashDisk()
        self.rig = Rig(self.disk)
        self.number = 0
        self.offered = 0
        self.known: dict[int, bytes] = {}

    @rule(size=st.integers(0, 1100), purpose=st.sampled_from([Purpose.PERCEPTION, Purpose.SAFETY]))
    def put(self, size: int, purpose: Purpose) -> None:
        self.number += 1
        self.offered += 1
        with contextlib.suppress(NotKept):
            ref = self.rig.put(self.number, size, purpose)
            self.known[ref.serial] = content(self.number, size)

    @rule(which=st.integers(0, 5), stored=st.booleans())
    def leave(self, which: int, stored: bool) -> None:
        kept = self.rig.store.kept()
        if kept:
            ref = kept[which % len(kept)]
            with contextlib.suppress(DiskError):
                self.rig.store.stored(ref) if stored else self.rig.store.refused(ref, "no")

    @rule(purpose=st.sampled_from([Purpose.PERCEPTION, Purpose.SAFETY]))
    def erase(self, purpose: Purpose) -> None:
        with contextlib.suppress(DiskError):
            self.rig.store.erase(purpose)
            assert not [ref for ref in self.rig.store.kept() if ref.purpose is purpose]

    @rule(after=st.integers(0, 12), error=st.sampled_from(FAULTS))
    def fail(self, after: int, error: DiskError) -> None:
        self.disk.fail(len(self.disk.calls) + after, error)

    @precondition(lambda self: self.known)
    @rule(bit=st.integers(0, 8000), which=st.integers(0, 5))
    def flip(self, bit: int, which: int) -> None:
        names = objects_in(self.disk.after_shutdown())
        if names:
            self.disk.flip_bit(names[which % len(names)], bit)

    @rule(after=st.integers(0, 12), size=st.integers(1, 1000))
    def killed(self, after: int, size: int) -> None:
        self.disk.heal()
        self.disk.fail(len(self.disk.calls) + after, Killed())
        self.number += 1
        self.offered += 1
        with contextlib.suppress(Killed, NotKept):
            self.rig.put(self.number, size)
        self.disk.heal()
        self.rig.open()

    @rule()
    def restart(self) -> None:
        self.disk.heal()
        self.rig.open()

    @invariant()
    def every_picture_is_accounted_for_once(self) -> None:
        counts = self.rig.counts()
        assert counts.offered == self.offered
        assert counts.kept_bytes <= SMALL.max_bytes + 1000 + OVERHEAD_BYTES

    @invariant()
    def what_is_kept_is_read_or_counted_as_damaged(self) -> None:
        self.disk.heal()
        for ref in self.rig.store.kept():
            with contextlib.suppress(ObjectGone):
                data = self.rig.read(ref)
                assert self.known.get(ref.serial, data) == data
                assert len(data) == ref.bytes


TestConserved = Conserved.TestCase
TestConserved.settings = settings(max_examples=60, stateful_step_count=30)
