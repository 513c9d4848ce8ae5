"""The spool killed between any two calls, with a disk that is full or fails at any call, and one that forgets bits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random

import pytest

from ecu.crashdisk import CrashDisk, CrashState, violation
from ecu.disk import DiskError, DiskFault, DiskFull, DiskStarved
from telemetry.records import Lane, Purpose
from telemetry.spool.counts import Evicted, MemoryCounters, Quarantined
from telemetry.spool.inspection import Untouched
from telemetry.spool.limits import PAGE_BYTES
from telemetry.spool.recovery import read_header
from telemetry.wire import BadBlock
from tests.telemetry.spool.rig import ROOMY, WIDE, Key, Rig, key_of, record, records_of
from tests.telemetry.spool.story import (
    KEYS,
    STORIES,
    Story,
    a_full_spool_evicts,
    a_full_spool_trims_first,
    a_segment_filled_sent_freed_and_used_again,
    a_sync_fails,
    durable,
    judge,
    two_purposes_and_one_erased,
    with_history,
)

Tell = Callable[[Story], None]


SHORT = [two_purposes_and_one_erased, a_full_spool_evicts, a_segment_filled_sent_freed_and_used_again, a_sync_fails]
LIVES = [
    *(pytest.param(tell, id=tell.__name__) for tell in SHORT),
    *(pytest.param(tell, id=tell.__name__, marks=pytest.mark.soak) for tell in STORIES if tell not in SHORT),
]


class Killed(BaseException):
    """SIGKILL: nobody catches it, and the page cache stays."""


def calls_of(tell: Tell) -> int:
    story, disk = Story(tell), with_history()
    before = len(disk.calls)
    story.scenario(disk)
    return len(disk.calls) - before


def tell_until_it_breaks(story: Story, disk: CrashDisk) -> None:
    """The agent ends on what a spool raises; records in its memory are then lost, and counted."""
    with contextlib.suppress(Killed, DiskError):
        story.scenario(disk)


def judge_the_next_life(story: Story, disk: CrashDisk) -> None:
    """With the ledger, which a kill doesn't take, law 1 is exact: every record ever offered is accounted for."""
    disk.heal()
    rig = Rig(disk, story.counters, keys=KEYS, seed=2)
    counts = rig.spool.counts()
    if len(story.moments) > 1:
        offered = sum(lane.offered for lane in counts.lanes)
        assert offered - story.before == story.rig.offered
        assert durable(counts) - story.before >= len(story.rig.confirmed)
        story.promise()
        judge(story.moments[-1], rig)


@pytest.mark.parametrize("tell", LIVES)
def test_a_kill_between_any_two_acts_loses_nothing_confirmed_and_counts_the_rest(tell: Tell) -> None:
    for n in range(calls_of(tell)):
        story, disk = Story(tell), with_history()
        disk.fail(n, Killed())
        tell_until_it_breaks(story, disk)
        judge_the_next_life(story, disk)


@pytest.mark.parametrize("cut_short", [Killed(), DiskFault("worn")], ids=["killed in it", "killed after it failed"])
def test_what_a_start_counts_as_durable_survives_a_power_cut_though_no_sync_had_succeeded(
    cut_short: BaseException,
) -> None:
    rig = Rig(disk := with_history(), keys=KEYS)
    rig.put(record(0))
    disk.fail(lambda call: call.act == "sync" and call.path.endswith(".seg"), cut_short)
    with contextlib.suppress(Killed):
        rig.put(*(record(n) for n in range(1, 6)))
    disk.heal()
    found = {key_of(item) for item in Rig(disk, rig.counters, keys=KEYS, seed=2).read()}
    assert len(found) == 6
    disk.mark("counted")
    for state in disk.after_crash():
        if "counted" in state.acknowledged:
            left = Rig(state.disk, MemoryCounters(was_lost=True), keys=KEYS, seed=3).read()
            assert {key_of(item) for item in left} == found, state.describe


@pytest.mark.parametrize("tell", LIVES)
def test_one_call_that_fails_loses_nothing_confirmed(tell: Tell) -> None:
    for n in range(calls_of(tell)):
        fail_once_and_judge(tell, n, DiskFault("worn"))


@pytest.mark.parametrize("tell", [life for life in LIVES if life.id != a_full_spool_trims_first.__name__])
def test_one_call_without_space_loses_nothing_confirmed(tell: Tell) -> None:
    """Of all lives but the one that is about having enough of it."""
    for n in range(calls_of(tell)):
        fail_once_and_judge(tell, n, DiskFull("full"))


def fail_once_and_judge(tell: Tell, n: int, error: DiskError) -> None:
    story, disk = Story(tell), with_history()
    disk.fail(n, error)
    tell_until_it_breaks(story, disk)
    judge_the_next_life(story, disk)


def test_a_disk_that_fails_for_a_while_holds_up_but_loses_nothing() -> None:
    rig = Rig(disk := with_history(), keys=KEYS)
    disk.fail(lambda call: call.act in ("write_at", "sync", "rename", "create"), DiskFault("worn"))
    assert rig.put(record(1), record(2, Lane.P0)) == ()
    assert rig.spool.counts().holds
    assert rig.spool.why_full is not None
    disk.heal()
    assert len(rig.commit()) == 2
    assert rig.spool.why_full is None


def test_on_a_full_disk_receipts_make_room_without_taking_any() -> None:
    rig = Rig(disk := with_history(), keys=KEYS)
    disk.fail(lambda call: call.act == "create", DiskFull("full"))
    rig.put(record(0, Lane.P0, size=6000), record(1, Lane.P0, size=6000), record(2, Lane.P0, size=6000))
    rig.put(record(3, Lane.P3))
    assert rig.spool.counts().lanes[Lane.P3].pending == 1
    before = len(disk.calls)
    assert rig.drain() == 3
    assert not [call for call in disk.calls[before:] if call.act in ("create", "make_folder")]
    assert len(rig.commit()) == 1
    assert rig.spool.counts().holds


def test_on_a_full_disk_a_higher_lane_evicts_a_lower_one() -> None:
    rig = Rig(disk := with_history(), keys=KEYS)
    for number in range(3):
        rig.put(record(number, Lane.P3, size=6000))
    disk.fail(lambda call: call.act == "create", DiskFull("full"))
    assert len(rig.put(record(3, Lane.P0))) == 1
    counts = rig.spool.counts()
    assert counts.lanes[Lane.P3].evicted == {Evicted.DISK_FULL: 2}
    assert counts.holds


def begun_at_many_starts() -> tuple[CrashDisk, Rig]:
    """Six segments of the lowest lane with a record each: a second one of P0 finds no room until one is trimmed."""
    rig = Rig(disk := CrashDisk(), limits=WIDE.model_copy(update={"max_bytes": 8 * WIDE.segment_bytes}))
    for number in range(6):
        rig.put(record(number, Lane.P3))
        rig.open()
    return disk, rig


@pytest.mark.parametrize("act", ["write_at", "truncate"])
def test_a_worn_segment_that_cannot_be_trimmed_denies_nobody_room(act: str) -> None:
    disk, rig = begun_at_many_starts()
    worn = next(s.name for s in rig.spool.segments(Lane.P3) if s.file_bytes == WIDE.segment_bytes)
    disk.fail(lambda call: call.act == act and call.path == worn, DiskFault("worn"))
    assert len(rig.put(*(record(n, Lane.P0, size=6000) for n in range(10, 30)))) == 20
    assert rig.spool.why_full is None
    assert rig.spool.counts().holds


def test_nothing_is_evicted_while_another_segment_than_a_worn_one_can_be_trimmed() -> None:
    disk, rig = begun_at_many_starts()
    worn = next(s.name for s in rig.spool.segments(Lane.P3) if s.file_bytes == WIDE.segment_bytes)
    disk.fail(lambda call: call.act == "truncate" and call.path == worn, DiskFault("worn"))
    assert len(rig.put(*(record(n, Lane.P0, size=6000) for n in range(10, 20)))) == 10
    assert [call for call in disk.calls if call.act == "truncate" and call.path == worn]
    assert not rig.spool.counts().lanes[Lane.P3].evicted


@pytest.mark.parametrize("act", ["write_at", "truncate"])
def test_after_a_trim_cut_short_each_segment_is_as_large_as_its_file(act: str) -> None:
    disk, rig = begun_at_many_starts()
    disk.fail(lambda call: call.act == act and call.path.startswith("p3-"), DiskFault("worn"))
    assert len(rig.put(*(record(n, Lane.P0, size=6000) for n in range(10, 20)))) == 10
    left = rig.spool.segments(Lane.P3)
    assert any(segment.faulty for segment in left)
    assert [segment.file_bytes for segment in left] == [disk.size(segment.name) for segment in left]


def test_a_computer_short_of_descriptors_at_a_trim_makes_no_segment_faulty_and_costs_none() -> None:
    disk, rig = begun_at_many_starts()
    disk.fail(lambda call: call.act == "truncate", DiskStarved("too many files"))
    rig.put(*(record(n, Lane.P0, size=6000) for n in range(10, 20)))
    assert rig.spool.counts().lanes[Lane.P0].pending
    disk.heal()
    rig.commit()
    assert rig.spool.counts().lanes[Lane.P0].durable == 10
    assert not any(segment.faulty for segment in rig.spool.segments(Lane.P3))
    assert not rig.spool.counts().lanes[Lane.P3].evicted


@pytest.mark.parametrize("act", ["read_at", "read", "size"])
def test_a_computer_short_of_descriptors_is_never_taken_for_damage(act: str) -> None:
    rig = Rig(disk := CrashDisk(), limits=ROOMY)
    rig.put(*(record(n, size=3000) for n in range(3)))
    disk.fail(lambda call: call.act == act and call.path.endswith(".seg"), DiskStarved("too many files"))
    with contextlib.suppress(DiskStarved):
        rig.read()
    with pytest.raises(DiskStarved):
        rig.open()
    disk.heal()
    rig.open()
    assert len(rig.read()) == 3
    assert not rig.spool.counts().lanes[Lane.P1].quarantined


@pytest.mark.parametrize("page", [0, 1])
def test_one_unreadable_header_page_costs_nothing(page: int) -> None:
    rig = Rig(disk := CrashDisk(), limits=ROOMY)
    rig.put(*(record(n, size=1000) for n in range(6)))
    rig.disk = PageGone(disk, rig.spool.segments(Lane.P1)[0].name, page)
    rig.open()
    assert len(rig.read()) == 6
    assert not rig.spool.counts().lanes[Lane.P1].quarantined


def test_what_cannot_be_read_at_one_start_and_can_at_the_next_is_counted_once() -> None:
    rig = Rig(disk := CrashDisk(), limits=ROOMY)
    rig.put(*(record(n, size=1000) for n in range(6)))
    name = rig.spool.segments(Lane.P1)[0].name
    disk.fail(lambda call: call.act in ("read", "read_at") and call.path == name, DiskFault("loose cable"))
    for _ in range(2):
        rig.open()
        assert rig.spool.counts().lanes[Lane.P1].quarantined == {Quarantined.UNREADABLE: 6}
        assert rig.spool.counts().holds
        rig.spool.close()
    disk.heal()
    rig.open()
    p1 = rig.spool.counts().lanes[Lane.P1]
    assert (p1.offered, p1.durable, p1.spooled, p1.quarantined) == (6, 6, 6, {})
    assert len(rig.read()) == 6


def test_what_was_acknowledged_in_a_segment_that_cannot_be_read_for_a_while_stays_acknowledged() -> None:
    rig = Rig(disk := CrashDisk(), limits=ROOMY)
    rig.put(record(0))
    rig.put(record(1))
    sent, unsent = rig.blocks()
    rig.acknowledge(sent)
    rig.spool.close()
    name = rig.spool.segments(Lane.P1)[0].name
    disk.fail(lambda call: call.act in ("read", "read_at") and call.path == name, DiskFault("loose cable"))
    rig.open()
    rig.put(record(2))
    rig.drain()
    # Frees the segment of the third, makes the names durable, and writes down what is still known to have left.
    rig.spool.close()
    disk.heal()
    rig.open()
    assert rig.blocks() == [unsent]
    p1 = rig.spool.counts().lanes[Lane.P1]
    assert (p1.acknowledged, p1.spooled, p1.quarantined) == (2, 1, {})
    assert rig.spool.counts().holds


def test_a_number_that_a_kill_left_in_a_free_file_is_never_given_out_again() -> None:
    rig = Rig(disk := CrashDisk())
    disk.fail(lambda call: call.act == "rename" and call.path.startswith("free-"), Killed())
    with contextlib.suppress(Killed):
        rig.put(record(0))
    disk.heal()
    [free] = [name for name in disk.names("") if name.startswith("free-")]
    begun = read_header(disk, free)
    assert begun is not None
    rig.open()
    rig.put(record(1))
    assert rig.spool.segments(Lane.P1)[0].serial > begun.serial


class PageGone(Untouched):
    """A disk on which one page of one file can't be read."""

    def __init__(self, disk: CrashDisk, name: str, page: int) -> None:
        super().__init__(disk)
        self._medium, self._name, self._page = disk, name, page
        self.read, self.read_at = self._read, self._read_at

    def _read(self, path: str) -> bytes:
        return self._read_at(path, 0, self._medium.size(path))

    def _read_at(self, path: str, offset: int, length: int) -> bytes:
        if path == self._name and offset < (self._page + 1) * PAGE_BYTES and self._page * PAGE_BYTES < offset + length:
            raise DiskFault("bad sector")
        return self._medium.read_at(path, offset, length)


def test_freed_records_stay_gone_though_a_sync_of_the_names_failed_and_the_next_did_not() -> None:
    rig = Rig(disk := CrashDisk(), limits=ROOMY, keys=KEYS)
    for number in range(8):
        rig.put(record(number, size=6000))
    rig.spool.close()
    rig.open()
    blocks = rig.blocks()
    rig.acknowledge(*blocks[:2])
    disk.fail(lambda call: call.act == "sync_folder", DiskFault("worn"))
    rig.acknowledge(*blocks[2:4])
    disk.heal()
    rig.acknowledge(*blocks[4:])
    rig.spool.close()
    assert rig.spool.counts().lanes[Lane.P1].acknowledged == 8
    disk.mark("freed")
    for state in disk.after_crash():
        if "freed" in state.acknowledged:
            left = Rig(state.disk, MemoryCounters(was_lost=True), keys=KEYS, seed=3).spool.counts()
            assert left.lanes[Lane.P1].spooled == 0, state.describe


# --- bits that flip --------------------------------------------------------------------------------------------------


def much_lived() -> tuple[CrashDisk, MemoryCounters, Rig]:
    """Sealed, open and half acknowledged segments of two epochs and two lanes."""
    disk, counters = with_history(), MemoryCounters()
    rig = Rig(disk, counters, ROOMY, keys=KEYS, seed=5)
    for number in range(3):
        rig.put(record(number, size=6000), record(number + 10, Lane.P0))
    rig.open()
    rig.put(record(20), record(21, Lane.P0))
    rig.put(record(22), record(23, purpose=Purpose.DRIVING))
    rig.acknowledge(rig.lane_blocks(Lane.P1)[0])
    rig.spool.close()
    return disk.after_shutdown(), counters, rig


def test_a_flipped_bit_anywhere_costs_at_most_its_block_and_never_the_start() -> None:
    disk, counters, before = much_lived()
    blocks = [{key_of(item) for item in records_of(before.spool.load(ref))} for ref in before.blocks()]
    for path in disk.names(""):
        for bit in sampled_bits(disk.size(path), path):
            flipped = disk.after_shutdown()
            flipped.flip_bit(path, bit)
            lost = lost_after(flipped, counters, before)
            assert any(lost <= block for block in blocks), f"bit {bit} of {path} cost {len(lost)} records"
            assert path.endswith(".seg") or not lost, f"bit {bit} of {path}"


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_of_a_thousand_flipped_bits_none_costs_more_than_its_block() -> None:
    disk, counters, before = much_lived()
    blocks = [{key_of(item) for item in records_of(before.spool.load(ref))} for ref in before.blocks()]
    bits = [(path, bit) for path in disk.names("") for bit in range(disk.size(path) * 8)]
    costly = 0
    for path, bit in Random(7).sample(bits, 1000):
        flipped = disk.after_shutdown()
        flipped.flip_bit(path, bit)
        lost = lost_after(flipped, counters, before)
        assert any(lost <= block for block in blocks), f"bit {bit} of {path} cost {len(lost)} records"
        costly += bool(lost)
    assert costly > 0, "no bit that mattered was flipped"


def sampled_bits(size: int, path: str) -> list[int]:
    """Every field of the headers, and a bit here and there in what follows."""
    rng = Random(path)
    heads = [page + offset for page in range(0, size, PAGE_BYTES) for offset in (0, 5, 9, 14, 20, 30, 45, 60, 100)]
    return [at * 8 + rng.randrange(8) for at in [*heads, *(rng.randrange(size) for _ in range(4))] if at < size]


def lost_after(disk: CrashDisk, counters: MemoryCounters, before: Rig) -> set[Key]:
    """Opens the damaged spool, reads all there is, and sees that law 1 says how much there isn't."""
    ledger = MemoryCounters()
    ledger.set(**counters.values())
    rig = Rig(disk, ledger, ROOMY, keys=KEYS, seed=6)
    there: dict[Key, bytes] = {}
    for ref in rig.blocks():
        with contextlib.suppress(BadBlock):
            there.update((key_of(item), item.digest) for item in records_of(rig.spool.load(ref)))
    assert all(before.confirmed[key] == digest for key, digest in there.items()), "bytes were made up"
    lost = before.confirmed.keys() - there.keys() - before.stored.keys()
    counts = rig.spool.counts()
    assert counts.holds
    assert sum(sum(lane.quarantined.values()) for lane in counts.lanes) == len(lost)
    assert len(rig.put(record(100), record(101, Lane.P0))) == 2
    return set(lost)


@pytest.mark.parametrize("twin", range(2))
@pytest.mark.parametrize("evicted", [False, True], ids=["freed", "evicted"])
def test_either_twin_of_the_books_alone_knows_what_left_before_its_segment_was_given_away(
    evicted: bool, twin: int
) -> None:
    rig = Rig(disk := CrashDisk(), keys=KEYS)
    for number in range(6):
        rig.put(record(number, Lane.P3))
    blocks = rig.blocks()
    rig.acknowledge(blocks[2], blocks[0])
    if evicted:
        rig.put(record(6, Lane.P3))
    else:
        rig.acknowledge(blocks[1])
    assert len(rig.spool.segments(Lane.P3)) == (3 if evicted else 2)
    before, there = rig.spool.counts(), rig.read()
    disk.flip_bit(f"books.{twin}", 8 * 40)
    rig.open()
    assert rig.spool.counts().lanes == before.lanes
    assert rig.read() == there


def test_damage_is_counted_the_same_wherever_a_power_cut_ended_the_start_that_found_it() -> None:
    rig = Rig(disk := CrashDisk(), limits=WIDE, keys=KEYS)
    for number in range(4):
        rig.put(record(number))
    disk.flip_bit(rig.spool.segments(Lane.P1)[0].name, (3 * PAGE_BYTES + 5) * 8)

    def start(disk: CrashDisk) -> None:
        Rig(disk, MemoryCounters(was_lost=True), WIDE, KEYS, seed=2)

    def law(state: CrashState) -> None:
        counts = Rig(state.disk, MemoryCounters(was_lost=True), WIDE, KEYS, seed=3).spool.counts()
        p1 = counts.lanes[Lane.P1]
        assert (p1.durable, p1.spooled, p1.quarantined) == (4, 3, {Quarantined.CORRUPT: 1})

    if cut := violation(start, law, disk.after_shutdown()):
        pytest.fail(cut)


@pytest.mark.parametrize(("which", "why"), [(0, Quarantined.CORRUPT), (-1, Quarantined.MISSING)])
def test_a_segment_with_both_headers_gone_is_counted_and_its_file_given_back(which: int, why: Quarantined) -> None:
    """Later segments of its epoch tell what it held; of the last one only the ledger knows."""
    disk, counters, before = much_lived()
    victim = before.lane_blocks(Lane.P0)[which]
    name = f"p0-{victim.serial:08d}.seg"
    held = sum(ref.count for ref in before.lane_blocks(Lane.P0) if ref.serial == victim.serial)
    for copy in range(2):
        disk.flip_bit(name, (copy * PAGE_BYTES + 30) * 8)
    rig = Rig(disk, counters, ROOMY, keys=KEYS, seed=6)
    assert rig.spool.counts().lanes[Lane.P0].quarantined == {why: held}
    assert rig.spool.counts().holds
    assert name not in disk.names("")


def test_a_key_that_a_kill_left_in_one_twin_is_in_both_before_more_is_written_under_it() -> None:
    for n in range(30):
        rig = Rig(disk := CrashDisk(), keys=KEYS)
        rig.put(record(0))
        disk.fail(len(disk.calls) + n, Killed())
        with contextlib.suppress(Killed):
            rig.put(record(1, purpose=Purpose.DRIVING))
        disk.heal()
        rig = Rig(disk, rig.counters, keys=KEYS, seed=2)
        rig.put(record(2, purpose=Purpose.DRIVING))
        for twin in range(2):
            flipped = disk.after_shutdown()
            flipped.flip_bit(f"keys.{twin}", 8 * 40)
            assert Rig(flipped, keys=KEYS, seed=3).read()


def test_no_flipped_bit_erases_again_what_came_after_an_erasure_that_a_kill_cut_short() -> None:
    for n in range(30):
        rig = Rig(disk := CrashDisk(), limits=ROOMY, keys=KEYS)
        rig.put(record(1), record(2, purpose=Purpose.DRIVING))
        disk.fail(len(disk.calls) + n, Killed())
        with contextlib.suppress(Killed):
            rig.spool.erase(Purpose.DRIVING)
        disk.heal()
        rig = Rig(disk, rig.counters, ROOMY, keys=KEYS, seed=2)
        confirmed = {key_of(item) for item in rig.put(record(3, purpose=Purpose.DRIVING))}
        for twin in range(2):
            flipped = disk.after_shutdown()
            flipped.flip_bit(f"books.{twin}", 8 * 40)
            assert confirmed <= {key_of(item) for item in Rig(flipped, limits=ROOMY, keys=KEYS, seed=3).read()}


def test_a_spool_that_lost_its_books_sends_again_and_says_so() -> None:
    disk, counters, before = much_lived()
    for twin in range(2):
        disk.flip_bit(f"books.{twin}", 200)
    rig = Rig(disk, counters, ROOMY, keys=KEYS, seed=6)
    assert rig.spool.books_lost
    assert {key_of(item) for item in rig.read()} == set(before.confirmed)
    assert rig.spool.counts().holds
    rig.drain()
    rig.spool.close()
    rig.open()
    assert not rig.spool.books_lost


def test_blocks_under_a_lost_key_are_quarantined_one_by_one_and_the_lane_goes_on() -> None:
    disk, counters, _ = much_lived()
    for twin in range(2):
        disk.flip_bit(f"keys.{twin}", 400)
    rig = Rig(disk, counters, ROOMY, keys=KEYS, seed=6)
    for ref in (blocks := rig.lane_blocks(Lane.P0)):
        with pytest.raises(BadBlock):
            rig.spool.load(ref)
    assert rig.spool.counts().lanes[Lane.P0].quarantined == {Quarantined.KEY_LOST: sum(ref.count for ref in blocks)}
    assert len(rig.put(record(100, Lane.P0))) == 1
    [ref] = rig.lane_blocks(Lane.P0)
    assert len(records_of(rig.spool.load(ref))) == 1
