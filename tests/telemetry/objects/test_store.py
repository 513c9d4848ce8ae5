"""The object store's laws on a disk that may fail: what was put is there, and what isn't there is accounted for."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskError, DiskFault, DiskFull, DiskStarved
from ecu.keys import MemoryKeyStore
from ecu.twin import TwinRecord
from telemetry.objects.books import Books, Page, decode, encode
from telemetry.objects.config import ObjectsConfig
from telemetry.objects.counts import Dropped, Totals
from telemetry.objects.errors import NotKept, ObjectGone, ObjectsTooNew
from telemetry.objects.format import HEADER_BYTES, OVERHEAD_BYTES, TAG_BYTES, ObjectRef
from telemetry.objects.retention import to_evict
from telemetry.records import Purpose
from tests.telemetry.objects.rig import (
    FAULTS,
    SMALL,
    Rig,
    calls_of,
    content,
    objects_in,
    picture,
    rig_with_history,
)


def test_a_picture_that_was_put_is_read_back_whole_and_in_slices() -> None:
    rig = Rig()
    ref = rig.put(1, size=700)
    assert rig.read(ref) == content(1, 700)
    assert rig.store.read(ref, 256, 128) == content(1, 700)[256:384]
    assert rig.store.read(ref, 690, 128) == content(1, 700)[690:]
    assert rig.counts().kept == 1


def test_nothing_of_a_picture_lies_on_flash_as_it_is() -> None:
    # Mutation: writing `plain` behind the header, or an empty key, fails here.
    rig = Rig()
    rig.put(1, size=700)
    assert isinstance(rig.disk, CrashDisk)
    (name,) = objects_in(rig.disk)
    stored = rig.disk.read(name)
    assert not any(content(1, 700)[at : at + 8] in stored for at in range(0, 692, 8))


def test_the_same_picture_kept_twice_is_not_seen_to_be_the_same() -> None:
    # Mutation: without a salt of its own a second file meets the first one's key and nonce.
    rig = Rig()
    bodies = []
    for _ in range(2):
        ref = rig.put(1)
        bodies.append(rig.disk.read(f"{ref.serial:08d}.obj")[HEADER_BYTES:-TAG_BYTES])
        rig.store.stored(ref)
    assert bodies[0] != bodies[1]


def test_only_a_redacted_picture_is_taken() -> None:
    rig = Rig()
    for impostor in (b"jpeg", None, picture(1).jpeg):
        with pytest.raises(TypeError, match="redacted"):
            rig.store.put(impostor, Purpose.PERCEPTION)  # type: ignore[arg-type]
    assert rig.counts().offered == 0


@pytest.mark.parametrize(
    ("size", "reason"), [(0, Dropped.EMPTY), (1001, Dropped.TOO_LARGE), (10_000, Dropped.TOO_LARGE)]
)
def test_what_is_empty_or_too_large_is_refused_in_words_and_counted(size: int, reason: Dropped) -> None:
    rig = Rig()
    kept = rig.put(1)
    with pytest.raises(NotKept, match="isn't kept") as refusal:
        rig.put(2, size)
    assert refusal.value.reason is reason
    counts = rig.counts()
    assert (counts.offered, counts.durable, counts.dropped) == (2, 1, {reason.value: 1})
    assert rig.read(kept) == content(1)


def test_the_largest_that_is_allowed_is_taken() -> None:
    rig = Rig()
    assert rig.read(rig.put(1, size=1000)) == content(1, 1000)


def test_the_same_picture_again_is_the_same_object() -> None:
    rig = Rig()
    ref = rig.put(1)
    assert rig.put(1) == ref
    other = rig.put(1, purpose=Purpose.SAFETY)
    assert (other.sha256, other.serial) == (ref.sha256, ref.serial + 1), "what one purpose loses the other must keep"
    counts = rig.counts()
    assert (counts.offered, counts.kept, counts.dropped) == (3, 2, {"duplicate": 1})


def test_the_oldest_goes_first_and_is_evicted_first() -> None:
    rig = Rig()
    refs = [rig.put(n, size=900) for n in range(5)]
    assert rig.store.oldest() == refs[1]
    assert rig.store.kept() == tuple(refs[1:])
    counts = rig.counts()
    assert (counts.evicted, counts.kept) == (1, 4)
    assert counts.kept_bytes <= SMALL.max_bytes
    with pytest.raises(ObjectGone):
        rig.read(refs[0])
    assert not rig.store.stored(refs[0]), "what left already doesn't leave again"
    assert rig.counts() == counts


def test_a_smaller_limit_evicts_at_the_next_start() -> None:
    rig = Rig()
    for number in range(4):
        rig.put(number, size=900)
    rig.limits = ObjectsConfig(max_bytes=2000, object_bytes=1000)
    rig.open()
    assert [ref.serial for ref in rig.store.kept()] == [3, 4]
    assert rig.counts().evicted == 2


def test_what_the_receiver_has_or_will_never_have_is_forgotten() -> None:
    rig = Rig()
    one, two = rig.put(1), rig.put(2)
    assert rig.store.stored(one)
    assert rig.store.refused(two, "too large for it")
    counts = rig.counts()
    assert (counts.stored, counts.refused, counts.kept, counts.last_refusal) == (1, 1, 0, "too large for it")
    assert isinstance(rig.disk, CrashDisk)
    assert objects_in(rig.disk) == []


def test_erasing_a_purpose_takes_its_objects_and_their_key_and_no_others() -> None:
    rig = Rig()
    safe = rig.put(1, purpose=Purpose.SAFETY)
    doomed = [rig.put(n) for n in (2, 3)]
    disk = rig.disk
    assert isinstance(disk, CrashDisk)
    files = {name: disk.read(name) for name in objects_in(disk)}
    assert rig.store.erase(Purpose.PERCEPTION) == 2
    assert rig.counts().erased == 2
    for ref in doomed:
        with pytest.raises(ObjectGone):
            rig.read(ref)
    assert rig.read(safe) == content(1)
    # Whoever kept the files can't read them either, with every key that is left.
    for name, data in files.items():
        if not disk.exists(name):
            disk.create(name)
            disk.write_at(name, 0, data)
    rig.open()
    assert rig.contents() == {content(1)}
    assert rig.counts().damaged == {"key_lost": 2}


def test_a_purpose_lives_on_after_its_erasure() -> None:
    rig = Rig()
    rig.put(1)
    rig.store.erase(Purpose.PERCEPTION)
    assert rig.store.erase(Purpose.PERCEPTION) == 0
    ref = rig.put(1)
    rig.open()
    assert rig.read(ref) == content(1)


# --- a disk that fails ---


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
def test_a_put_that_fails_at_any_call_drops_one_picture_and_costs_no_other(error: DiskError) -> None:
    # Mutation: evicting before writing loses an old picture for one that there is no room for.
    calls = calls_of(lambda rig: rig.put(9, size=900))
    assert len(calls) > 8
    for index in range(len(calls)):
        rig, disk = rig_with_history()
        before = rig.contents()
        disk.fail(len(disk.calls) + index, error)
        with contextlib.suppress(NotKept):
            rig.put(9, size=900)
        disk.heal()
        counts = rig.counts()
        assert counts.durable + sum(counts.dropped.values()) == counts.offered
        evicted = counts.evicted
        assert len(before - rig.contents()) == evicted <= (counts.kept == 4)
        rig.open()
        assert rig.counts().kept == min(4, counts.kept), "a start evicts what a put couldn't"
        assert rig.counts().offered == 5, "what was said to be dropped isn't found again"
        assert rig.put(10), "and life goes on"
        rig.counts()


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
def test_a_picture_is_dropped_for_what_flash_said(error: DiskError) -> None:
    disk = CrashDisk()
    rig = Rig(disk)
    disk.fail(lambda call: call.act == "write_at" and ".obj" in call.path, error)
    with pytest.raises(NotKept, match=str(error)) as refusal:
        rig.put(1)
    assert refusal.value.reason is (Dropped.DISK_FULL if isinstance(error, DiskFull) else Dropped.DISK_FAULT)
    assert rig.counts().dropped == {refusal.value.reason.value: 1}
    assert rig.counts().fault == str(error)


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("act", ["stored", "refused", "erase"])
def test_a_departure_that_fails_at_any_call_happens_once_or_not_at_all(error: DiskError, act: str) -> None:
    def leave(rig: Rig) -> object:
        oldest = rig.store.kept()[0]
        match act:
            case "stored":
                return rig.store.stored(oldest)
            case "refused":
                return rig.store.refused(oldest, "no")
            case _:
                return rig.store.erase(Purpose.PERCEPTION)

    calls = calls_of(leave)
    for index in range(len(calls)):
        rig, disk = rig_with_history()
        disk.fail(len(disk.calls) + index, error)
        with contextlib.suppress(DiskError):
            leave(rig)
        disk.heal()
        said = rig.counts()
        fresh = rig.put(9)
        rig.open()
        again = rig.counts()
        assert fresh in rig.store.kept()
        assert again.offered == 5
        assert again.kept + again.stored + again.refused + again.erased + again.evicted == 5
        assert again.damaged == {}
        # What was told is still so; what failed may have happened all the same, and then it is counted.
        assert again.kept <= said.kept + 1
        assert (again.stored, again.refused) in ((said.stored, said.refused), (act == "stored", act == "refused"))
        with contextlib.suppress(DiskError):
            leave(rig)
        rig.counts()


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
def test_an_erasure_that_fails_at_any_call_takes_nothing_that_comes_later(error: DiskError) -> None:
    # Mutation: an erasure that flash knows of and memory doesn't takes at the next start what was put in between.
    disk = CrashDisk()
    rig = Rig(disk)
    rig.put(1)
    before = len(disk.calls)
    rig.store.erase(Purpose.PERCEPTION)
    for index in range(len(disk.calls) - before):
        disk = CrashDisk()
        rig = Rig(disk)
        rig.put(1)
        disk.fail(len(disk.calls) + index, error)
        with contextlib.suppress(DiskError):
            rig.store.erase(Purpose.PERCEPTION)
        disk.heal()
        fresh = rig.put(2)
        assert rig.contents() == {content(2)}
        rig.open()
        assert rig.store.kept() == (fresh,)
        assert (rig.counts().erased, rig.counts().damaged) == (1, {})


def test_an_erasure_that_is_said_again_counts_each_object_once() -> None:
    disk = CrashDisk()
    rig = Rig(disk)
    rig.put(1)
    rig.put(2)
    disk.fail(lambda call: call.path.startswith("books"), DiskFault("worn"))
    for _ in range(2):
        with pytest.raises(DiskFault):
            rig.store.erase(Purpose.PERCEPTION)
        assert rig.counts().erased == 2
    disk.heal()
    assert rig.store.erase(Purpose.PERCEPTION) == 0
    assert rig.counts().erased == 2
    rig.open()
    assert (rig.counts().erased, rig.counts().damaged) == (2, {})


def test_what_flash_did_not_let_go_is_gone_before_the_next_is_kept() -> None:
    # Mutation: left for the next start, it takes the room of what is kept now.
    disk = CrashDisk()
    rig = Rig(disk)
    ref = rig.put(1)
    disk.fail(lambda call: call.act == "remove", DiskFault("worn"))
    assert rig.store.stored(ref)
    assert objects_in(disk) == ["00000001.obj"]
    disk.heal()
    rig.put(2)
    assert objects_in(disk) == ["00000002.obj"]


def test_no_serial_comes_twice_although_every_object_has_left() -> None:
    # Mutation: without the books' own count a start knows only the serials that are still there.
    rig = Rig()
    for number in range(3):
        rig.store.stored(rig.put(number))
    rig.store.close()
    rig.open()
    assert rig.put(9).serial == 4


def test_what_was_half_written_takes_no_room_once_flash_lets_go_of_it() -> None:
    disk = CrashDisk()
    rig = Rig(disk)
    disk.fail(lambda call: call.act == "sync" and ".obj" in call.path, DiskFault("worn"))
    disk.fail(lambda call: call.act == "remove", DiskFault("worn"))
    with pytest.raises(NotKept):
        rig.put(1)
    assert "00000001.obj.tmp" in disk.names("")
    disk.heal()
    rig.put(2)
    assert [name for name in disk.names("") if ".obj" in name] == ["00000002.obj"]


def test_while_nothing_can_be_evicted_nothing_is_added() -> None:
    # Mutation: without it flash fills up for as long as the books can't be written.
    disk = CrashDisk()
    rig = Rig(disk)
    while rig.counts().kept_bytes + 388 <= SMALL.max_bytes:
        rig.put(rig.counts().offered)
    disk.fail(lambda call: call.path.startswith("books"), DiskFault("worn"))
    rig.put(100)
    most = rig.counts().kept_bytes
    for number in range(101, 105):
        with pytest.raises(NotKept):
            rig.put(number)
    assert rig.counts().kept_bytes == most <= SMALL.max_bytes + 388
    disk.heal()
    rig.put(105)
    assert rig.counts().kept_bytes <= SMALL.max_bytes


def test_a_full_disk_keeps_what_is_there_and_takes_the_next_when_there_is_room() -> None:
    rig, disk = rig_with_history()
    before = rig.contents()
    disk.fail(lambda call: call.act == "write_at" and call.path.endswith(".tmp"), DiskFull("full"))
    for number in range(20, 25):
        with pytest.raises(NotKept) as refusal:
            rig.put(number)
        assert refusal.value.reason is Dropped.DISK_FULL
    assert rig.counts().dropped == {"disk_full": 5}
    assert rig.contents() == before
    disk.heal()
    assert rig.read(rig.put(20)) == content(20)
    assert rig.counts().fault is None


def test_a_medium_that_does_not_give_an_object_back_loses_only_time() -> None:
    # Mutation: taking EIO for damage deletes all there is at one bad start.
    rig, disk = rig_with_history()
    oldest = rig.store.kept()[0]
    disk.fail(lambda call: call.act == "read" and call.path == "00000001.obj", DiskFault("worn"))
    with pytest.raises(ObjectGone, match="next start"):
        rig.read(oldest)
    assert rig.store.oldest() == rig.store.kept()[1], "the next goes on"
    assert (rig.counts().kept, rig.counts().unreadable) == (4, 1)
    disk.heal()
    disk.fail(lambda call: call.act == "read_at", DiskFault("worn"))
    rig.open()
    assert (rig.counts().kept, rig.counts().unreadable, rig.store.oldest()) == (4, 4, None)
    disk.heal()
    rig.open()
    assert (rig.counts().kept, rig.counts().unreadable) == (4, 0)
    assert rig.read(oldest) == content(0, 900)


def test_what_has_left_is_no_longer_unreadable() -> None:
    rig, disk = rig_with_history()
    disk.fail(lambda call: call.act == "read" and call.path == "00000001.obj", DiskFault("worn"))
    with pytest.raises(ObjectGone):
        rig.read(rig.store.kept()[0])
    assert rig.counts().unreadable == 1
    rig.store.erase(Purpose.PERCEPTION)
    assert (rig.counts().kept, rig.counts().unreadable) == (0, 0)


def test_a_shortage_at_reading_is_no_damage() -> None:
    rig, disk = rig_with_history()
    oldest = rig.store.kept()[0]
    disk.fail(lambda call: call.act == "read", DiskStarved("busy"))
    with pytest.raises(DiskStarved):
        rig.read(oldest)
    disk.heal()
    assert rig.read(oldest) == content(0, 900)


def test_a_damaged_file_costs_itself_whenever_it_is_found() -> None:
    for bit in (8 * 3, 8 * 80, 8 * 500):
        for found_at_start in (True, False):
            rig, disk = rig_with_history()
            refs = rig.store.kept()
            disk.flip_bit("00000002.obj", bit)
            if found_at_start:
                rig.open()
            for ref in refs:
                if ref.serial == 2:
                    with pytest.raises(ObjectGone):
                        rig.read(ref)
                else:
                    assert rig.read(ref) == content(ref.serial - 1, 900)
            assert (rig.counts().kept, rig.counts().damaged) == (3, {"corrupt": 1})


def test_a_file_that_was_cut_swapped_or_removed_costs_itself() -> None:
    def cut(disk: CrashDisk) -> None:
        disk.truncate("00000002.obj", 500)

    def swapped(disk: CrashDisk) -> None:
        disk.rename("00000003.obj", "00000002.obj")

    def removed(disk: CrashDisk) -> None:
        disk.remove("00000002.obj")

    for harm, damaged in ((cut, 1), (swapped, 2), (removed, 1)):
        for at_start in (True, False):
            rig, disk = rig_with_history()
            refs = rig.store.kept()
            harm(disk)
            if at_start:
                rig.open()
            for ref in refs:
                with contextlib.suppress(ObjectGone):
                    assert rig.read(ref) == content(ref.serial - 1, 900)
            counts = rig.counts()
            assert (counts.kept, sum(counts.damaged.values())) == (4 - damaged, damaged)


def test_a_lost_key_costs_its_purpose_and_no_other() -> None:
    rig, _ = rig_with_history()
    safe = rig.put(50, purpose=Purpose.SAFETY)
    other = MemoryKeyStore()

    class HalfForgetful:
        def seal(self, label: str, plain: bytes) -> bytes:
            return rig_keys.seal(label, plain)

        def unseal(self, label: str, sealed: bytes) -> bytes:
            return (other if label == "objects/p3/3" else rig_keys).unseal(label, sealed)

    rig_keys = rig.keys
    rig.keys = HalfForgetful()  # type: ignore[assignment]
    rig.open()
    assert rig.store.kept() == (safe,)
    assert rig.read(safe) == content(50)
    assert rig.counts().damaged == {"key_lost": 3}
    assert rig.put(1), "a new key is made"


def test_books_that_are_lost_or_anothers_are_told() -> None:
    rig, disk = rig_with_history()
    rig.store.stored(rig.store.kept()[0])
    for twin in ("books.0", "books.1"):
        disk.truncate(twin, 10)
    rig.open()
    counts = rig.counts()
    assert counts.books_lost
    assert (counts.kept, counts.stored, counts.damaged) == (3, 0, {}), "nothing is missing only because nobody knows"
    rig.put(60)
    rig.open()
    assert not rig.counts().books_lost
    with pytest.raises(ObjectsTooNew, match="Start the release"):
        decode(b"\x91\x02")
    later = msgspec.msgpack.encode([99, "of another shape"])
    TwinRecord(disk, "books").start_anew(later)
    rig.open()
    assert (rig.counts().books_lost, disk.read("books.aside")) == (True, later)
    rig.put(70)
    rig.open()
    assert not rig.counts().books_lost


@given(
    st.builds(
        Page,
        st.integers(1, 2**40),
        st.builds(Totals, *[st.integers(0, 2**40)] * 4, st.just({"corrupt": 2}), st.just({"empty": 1})),
        st.frozensets(st.integers(1, 2**40), max_size=2000),
        st.dictionaries(st.sampled_from(Purpose), st.integers(0, 2**20)),
    )
)
@settings(max_examples=50)
def test_a_page_comes_back_as_it_went_however_long_it_is(page: Page) -> None:
    assert decode(encode(page)) == page
    disk = CrashDisk()
    Books(disk).write(Page())
    Books(disk).write(page)
    assert Books(disk).read() == page


def test_strange_files_are_left_alone() -> None:
    rig, disk = rig_with_history()
    for name in ("note.txt", "1.obj", "00000001.obj.bak", "x.tmp"):
        disk.create(name, 10)
    rig.open()
    assert {"note.txt", "1.obj", "00000001.obj.bak", "x.tmp"} <= set(disk.names(""))


@given(st.lists(st.integers(1, 100), max_size=20), st.integers(0, 2000))
def test_no_more_is_evicted_than_it_takes_and_always_the_oldest(sizes: list[int], most: int) -> None:
    refs = [ObjectRef(n, "", size, Purpose.PERCEPTION) for n, size in enumerate(sizes)]
    doomed = to_evict(refs, most)
    rest = refs[len(doomed) :]
    assert doomed == tuple(refs[: len(doomed)])
    assert sum(ref.file_bytes for ref in rest) <= most
    if doomed:
        assert sum(ref.file_bytes for ref in [doomed[-1], *rest]) > most


def test_limits_that_hold_no_two_objects_are_no_limits() -> None:
    with pytest.raises(ValidationError, match="at least two objects"):
        ObjectsConfig(max_bytes=1999, object_bytes=1000)
    assert OVERHEAD_BYTES == 88


def test_of_pictures_that_came_together_one_that_flash_refuses_costs_no_other() -> None:
    # Mutation: moving in what was laid down but couldn't be made durable.
    disk = CrashDisk()
    rig = Rig(disk)
    syncs = iter([False, True, False])
    disk.fail(lambda call: call.act == "sync" and ".obj" in call.path and next(syncs), DiskFault("worn"))
    outcomes = rig.store.put_many([(picture(number), Purpose.PERCEPTION) for number in range(3)])
    disk.heal()
    assert [isinstance(outcome, NotKept) for outcome in outcomes] == [False, True, False]
    assert rig.contents() == {content(0, 300), content(2, 300)}
    assert not [name for name in disk.names("") if name.endswith(".tmp")]
    assert rig.counts().dropped == {"disk_fault": 1}
    rig.open()
    assert rig.contents() == {content(0, 300), content(2, 300)}
