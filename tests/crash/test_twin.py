"""TwinRecord when the power goes: at every operation, after every kill, with every operation failing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import DiskError, DiskFault, DiskFull
from ecu.twin import TwinLost, TwinRecord

CAPACITY = 1024
PAYLOADS = [bytes([65 + i]) * (400 + 50 * i) for i in range(4)]


class Killed(BaseException):
    """SIGKILL: nobody catches it."""


def record(disk: CrashDisk) -> TwinRecord:
    return TwinRecord(disk, "boot", CAPACITY)


def life(disk: CrashDisk) -> None:
    """Every kind of write, with marks for what was begun and what was acknowledged."""
    mine = record(disk)
    for i, payload in enumerate(PAYLOADS):
        disk.mark(f"begun {i}")
        (mine.write_both if i % 2 else mine.write)(payload)
        disk.mark(f"both {i}" if i % 2 or i == 0 else f"one {i}")


def latest(state: CrashState, *kinds: str) -> int:
    """The number of the latest mark of these kinds; -1 when there is none."""
    marks = [mark.split() for mark in state.acknowledged]
    return max((int(number) for kind, number in marks if kind in kinds), default=-1)


def index(read: bytes | None) -> int:
    return -1 if read is None else PAYLOADS.index(read)


def reads_what_was_acknowledged_or_begun(state: CrashState) -> None:
    assert latest(state, "one", "both") <= index(record(state.disk).read()) <= latest(state, "begun")


def each_twin_alone_holds_what_both_were_said_to(state: CrashState) -> None:
    held = latest(state, "both")
    if held == latest(state, "begun") >= 0:
        for path in ("boot.0", "boot.1"):
            alone = state.disk.after_shutdown()
            alone.truncate(path, 0)
            assert index(record(alone).read()) == held


def whole_law(state: CrashState) -> None:
    reads_what_was_acknowledged_or_begun(state)
    each_twin_alone_holds_what_both_were_said_to(state)


def test_at_any_instant_what_was_acknowledged_is_read_and_held_twice_where_promised() -> None:
    assert violation(life, whole_law, CrashDisk()) is None


def test_every_sync_is_needed_but_the_folder_sync_between_the_first_two_files() -> None:
    # Making the record is two replace_file, each durable by itself; the second one's folder sync covers both names.
    assert unnoticed_without(life, whole_law) == ["sync 1: sync_folder ''"]


def test_after_any_power_cut_the_record_goes_on_and_survives_the_next_one() -> None:
    disk = CrashDisk()
    life(disk)
    for state in disk.after_crash():
        before = record(state.disk.after_shutdown()).read()

        def goes_on(second: CrashDisk) -> None:
            record(second).write(b"after")
            second.mark("after")

        def law(later: CrashState, before: bytes | None = before) -> None:
            read = record(later.disk).read()
            assert read == b"after" or (read == before and "after" not in later.acknowledged)

        assert violation(goes_on, law, state.disk) is None, state.describe


def calls_of(act: Callable[[CrashDisk], None]) -> range:
    disk = CrashDisk()
    act(disk)
    return range(len(disk.calls))


def killed_at(call: int, disk: CrashDisk) -> None:
    disk.fail(call, Killed())
    with contextlib.suppress(Killed):
        life(disk)
    disk.heal()


def and_believed(call: int) -> Callable[[CrashDisk], None]:
    """Killed at that call, started again without a power cut, and what the new process reads is acted upon."""

    def scenario(disk: CrashDisk) -> None:
        killed_at(call, disk)
        read = record(disk).read()
        disk.mark(f"believed {index(read)}")

    return scenario


def still_reads_what_was_believed(state: CrashState) -> None:
    for mark in state.acknowledged:
        if mark.startswith("believed"):
            assert index(record(state.disk).read()) == int(mark.split()[1])


@pytest.mark.parametrize("call", calls_of(life))
def test_what_was_read_after_a_kill_is_durable(call: int) -> None:
    assert violation(and_believed(call), still_reads_what_was_believed, CrashDisk()) is None


def test_both_syncs_of_the_first_read_are_needed() -> None:
    kinds = set()
    for call in calls_of(life):
        mutant = CrashDisk()
        killed_at(call, mutant)
        for n, kind in enumerate(("file", "folder")):
            disk = CrashDisk()
            killed_at(call, disk)
            disk.without_sync(n)
            read = record(disk).read()
            disk.mark(f"believed {index(read)}")
            if violation(lambda _: None, still_reads_what_was_believed, disk):
                kinds.add(kind)
    assert kinds == {"file", "folder"}


@pytest.mark.parametrize("call", calls_of(life))
def test_after_reading_both_each_twin_alone_holds_what_was_read_whatever_a_kill_left(call: int) -> None:
    disk = CrashDisk()
    killed_at(call, disk)
    read = record(disk).read_both()
    for path in ("boot.0", "boot.1"):
        alone = disk.after_shutdown()
        if read is not None:
            alone.truncate(path, 0)
        assert record(alone).read() == read


@pytest.mark.parametrize("error", [DiskFault("medium"), DiskFull("full")], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", calls_of(life))
def test_an_error_anywhere_leaves_the_record_true_and_a_later_try_durable(call: int, error: DiskError) -> None:
    disk = CrashDisk()
    disk.fail(call, error)
    mine = record(disk)
    for i, payload in enumerate(PAYLOADS):
        disk.mark(f"begun {i}")
        write = mine.write_both if i % 2 else mine.write
        try:
            write(payload)
        except DiskError:
            assert index(mine.read()) in (i - 1, i)
            write(payload)
        disk.mark(f"both {i}" if i % 2 or i == 0 else f"one {i}")
        assert mine.read() == payload
    for state in disk.after_crash():
        whole_law(state)


class Lives(RuleBasedStateMachine):
    """Any order of writes, errors, kills, flipped bits and power cuts: `possible` is what may be read."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = CrashDisk()
        self.mine = record(self.disk)
        self.possible: set[bytes | None] = {None}
        self.both = False  # does each twin alone hold the payload?
        self.failed = False  # has a write failed in this process?
        self.count = 0

    @rule(both=st.booleans())
    def write(self, both: bool) -> None:
        self.written(self.next(), both)

    @rule(both=st.booleans(), after=st.integers(0, 9), error=st.sampled_from([DiskFault("medium"), DiskFull("full")]))
    def write_badly(self, both: bool, after: int, error: DiskError) -> None:
        payload = self.next()
        self.disk.fail(len(self.disk.calls) + after, error)
        try:
            self.written(payload, both)
        except DiskError:
            self.maybe(payload)
            self.failed = True
        self.disk.heal()

    # Linux forgets a failed sync: after one, only a power cut can be survived, not a kill.
    @precondition(lambda self: not self.failed)
    @rule(both=st.booleans(), after=st.integers(0, 9))
    def kill(self, both: bool, after: int) -> None:
        payload = self.next()
        self.disk.fail(len(self.disk.calls) + after, Killed())
        try:
            self.written(payload, both)
        except Killed:
            self.maybe(payload)
        self.disk.heal()
        self.mine = record(self.disk)

    @rule()
    def read(self) -> None:
        read = self.mine.read()
        assert read in self.possible
        if not self.failed:
            self.possible = {read}  # it may be acted upon, so it is durable

    @rule(choice=st.integers(0, 10**6))
    def cut_the_power(self, choice: int) -> None:
        self.disk.mark("now")
        left = [state.disk for state in self.disk.after_crash() if "now" in state.acknowledged]
        self.start_again(left[choice % len(left)])

    @precondition(lambda self: self.both)
    @rule(twin=st.sampled_from(["boot.0", "boot.1"]), bit=st.integers(0, CAPACITY * 8 - 1))
    def flip(self, twin: str, bit: int) -> None:
        self.start_again(self.disk.after_shutdown())
        self.disk.flip_bit(twin, bit)
        self.both = False

    @invariant()
    def is_never_lost(self) -> None:
        with contextlib.suppress(TwinLost):
            assert record(self.disk.after_shutdown()).peek() in self.possible
            return
        raise AssertionError("lost")

    def start_again(self, disk: CrashDisk) -> None:
        self.disk, self.mine, self.failed = disk, record(disk), False

    def written(self, payload: bytes, both: bool) -> None:
        first = self.mine.read() is None
        (self.mine.write_both if both else self.mine.write)(payload)
        self.possible, self.both = {payload}, both or first

    def maybe(self, payload: bytes) -> None:
        self.possible, self.both = self.possible | {payload}, False

    def next(self) -> bytes:
        self.count += 1
        return b"%d" % self.count * 60


test_no_order_of_writes_errors_kills_flips_and_cuts_loses_the_record = Lives.TestCase
Lives.TestCase.settings = settings(max_examples=60, stateful_step_count=15)
