"""The object store through every power cut its disk can have, and every bit that can flip on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from ecu.crashdisk import Call, CrashDisk, CrashState, violation
from ecu.disk import DiskError, DiskFault
from ecu.keys import MemoryKeyStore
from telemetry.objects.errors import NotKept, ObjectGone
from telemetry.objects.format import ObjectRef
from telemetry.records import Purpose
from tests.telemetry.objects.rig import Rig, content, no_counters, objects_in, picture

KEYS = MemoryKeyStore()
BEGUN = "begun"


@dataclass(frozen=True, slots=True)
class Moment:
    """What had been promised when a mark was set; `told`: what the store was told to forget, whether it has or not."""

    kept: frozenset[int] = frozenset()
    told: frozenset[int] = frozenset()
    erased: frozenset[int] = frozenset()
    offered: int = 0


@dataclass
class Story:
    """One life of a store, told by `tell` on a disk that has seen another, and what must be true after a power cut."""

    tell: Callable[[Story], None]
    seed: int = 1
    moments: list[Moment] = field(default_factory=list)
    refs: dict[int, ObjectRef] = field(default_factory=dict)

    def scenario(self, disk: CrashDisk) -> None:
        self.disk, self.refs = disk, {}
        self.rig = Rig(disk, keys=KEYS, seed=self.seed)
        self.before = self.rig.counts().offered
        self.moments = [Moment()]
        disk.mark(BEGUN)
        self.tell(self)

    # --- what a story is made of ---

    def put(self, number: int, size: int = 40, purpose: Purpose = Purpose.PERCEPTION) -> None:
        self._promise(offered=1)
        with contextlib.suppress(NotKept):
            self.refs[number] = self.rig.put(number, size, purpose)
            self._promise(kept={number})

    def put_together(self, *numbers: int) -> None:
        self._promise(offered=len(numbers))
        outcomes = self.rig.store.put_many([(picture(number, 40), Purpose.PERCEPTION) for number in numbers])
        kept = {n: outcome for n, outcome in zip(numbers, outcomes, strict=True) if isinstance(outcome, ObjectRef)}
        self.refs |= kept
        self._promise(kept=kept)

    def stored(self, number: int) -> None:
        self._promise(told={number})
        self.rig.store.stored(self.refs[number])

    def erase(self, purpose: Purpose) -> None:
        doomed = {n for n, ref in self.refs.items() if ref.purpose is purpose} - self.moments[-1].told
        self._promise(told=doomed)
        self.rig.store.erase(purpose)
        self._promise(erased=doomed)

    def restart(self) -> None:
        self.rig.open()

    def fail_once(self, when: Callable[[Call], bool]) -> None:
        spent: list[Call] = []

        def first(call: Call) -> bool:
            if not spent and when(call):
                spent.append(call)
            return spent == [call]

        self.disk.fail(first, DiskFault("worn"))

    def _promise(
        self, kept: Iterable[int] = (), told: Iterable[int] = (), erased: Iterable[int] = (), offered: int = 0
    ) -> None:
        last = self.moments[-1]
        changes = last.kept.union(kept), last.told.union(told), last.erased.union(erased)
        self.moments.append(Moment(*changes, last.offered + offered))
        self.disk.mark(str(len(self.moments) - 1))

    # --- what must be true ---

    def law(self, state: CrashState) -> None:
        if BEGUN not in state.acknowledged:
            return
        moment = self.moments[max((int(mark) for mark in state.acknowledged - {BEGUN}), default=0)]
        rig = Rig(state.disk, no_counters(was_lost=True), keys=KEYS, seed=-self.seed)
        counts = rig.counts()
        assert counts.damaged == {}, "this isn't damage"
        there = rig.contents()
        whole = {n for n in range(100) for size in (40, 900) if content(n, size) in there}
        assert len(whole) == len(there) == counts.kept, "what is kept is whole, and once"
        lost = moment.kept - whole - moment.told
        assert len(lost) <= counts.evicted, f"{lost} are gone"
        assert not whole & moment.erased, "what was erased came back"
        assert counts.offered <= self.before + moment.offered, "more than was ever offered"
        assert not [name for name in state.disk.names("") if name.endswith(".obj.tmp")]
        # Life goes on, and what is told stored now stays so.
        fresh = rig.put(99)
        gone = rig.store.kept()[0]
        rig.store.stored(gone)
        again = Rig(state.disk.after_shutdown(), no_counters(was_lost=True), keys=KEYS, seed=77)
        assert again.counts().kept == rig.counts().kept
        assert gone not in again.store.kept()
        assert fresh in (*again.store.kept(), gone)


def with_history() -> CrashDisk:
    """Its keys are made; it has objects of two purposes, and some have left."""
    disk = CrashDisk()
    rig = Rig(disk, keys=KEYS, seed=0)
    one = rig.put(1, size=40)
    rig.put(2, size=40, purpose=Purpose.SAFETY)
    rig.store.stored(one)
    rig.store.close()
    return disk.after_shutdown()


# --- stories ---------------------------------------------------------------------------------------------------------


def pictures_come_and_go(story: Story) -> None:
    story.put(10)
    story.put(11)
    story.stored(10)
    story.put(12)
    story.stored(12)
    story.stored(11)


def a_full_store_evicts(story: Story) -> None:
    for number in range(10, 16):
        story.put(number, size=900)


def a_purpose_is_erased_and_lives_on(story: Story) -> None:
    story.put(10)
    story.put(11, purpose=Purpose.SAFETY)
    story.erase(Purpose.PERCEPTION)
    story.put(12)
    story.stored(11)


def restarts(story: Story) -> None:
    story.put(10)
    story.restart()
    story.put(11)
    story.stored(10)
    story.restart()
    story.put(12)


def several_come_together(story: Story) -> None:
    story.put_together(10, 11, 12, 11)
    story.stored(11)
    story.fail_once(lambda call: call.act == "sync_folder")
    story.put_together(13, 14)
    story.put_together(14, 15)


def a_names_sync_fails(story: Story) -> None:
    story.put(10)
    story.fail_once(lambda call: call.act == "sync_folder")
    story.put(11)
    story.put(12)
    story.stored(10)


def a_departed_names_sync_fails(story: Story) -> None:
    story.put(10)
    story.put(11)
    story.fail_once(lambda call: call.act == "sync_folder")
    story.stored(10)
    story.stored(11)
    story.put(12)
    story.stored(12)
    story.put(13)


def an_objects_sync_fails(story: Story) -> None:
    story.put(10)
    story.fail_once(lambda call: call.act == "sync" and call.path.endswith(".tmp"))
    story.put(11)
    story.put(12)


def an_erasures_names_sync_fails(story: Story) -> None:
    # Mutation: forgetting their names lets a power cut bring files back whose key is gone, as damage.
    story.put(10)
    story.fail_once(lambda call: call.act == "sync_folder")
    with contextlib.suppress(DiskError):
        story.erase(Purpose.PERCEPTION)
    story.put(11)
    story.put(12)


STORIES = [
    pictures_come_and_go,
    a_full_store_evicts,
    a_purpose_is_erased_and_lives_on,
    restarts,
    several_come_together,
    a_names_sync_fails,
    a_departed_names_sync_fails,
    an_objects_sync_fails,
    an_erasures_names_sync_fails,
]


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
@pytest.mark.parametrize("prepare", [CrashDisk, with_history], ids=["first life", "later life"])
def test_no_power_cut_loses_a_kept_object_or_brings_one_back(
    tell: Callable[[Story], None], prepare: Callable[[], CrashDisk]
) -> None:
    # Mutation: no sync before the rename; no sync of the folder after it; a file removed before its page is written.
    story = Story(tell)
    if cut := violation(story.scenario, story.law, prepare()):
        pytest.fail(cut)


class Killed(BaseException):
    """SIGKILL: nobody catches it, and the page cache stays."""


def test_a_kill_at_any_call_and_then_a_power_cut_at_any_call_of_the_next_start_is_survived() -> None:
    # Mutation: without its sync of the folder a start counts on removals that a power cut takes back.
    def life(rig: Rig) -> None:
        rig.put(10, size=40)
        rig.put(11, size=40, purpose=Purpose.SAFETY)
        rig.store.erase(Purpose.PERCEPTION)
        rig.store.stored(rig.store.kept()[0])

    def start(disk: CrashDisk) -> None:
        rig = Rig(disk, keys=KEYS, seed=8)
        kept.update(rig.contents())
        disk.mark("started")

    def law(state: CrashState) -> None:
        rig = Rig(state.disk, no_counters(was_lost=True), keys=KEYS, seed=9)
        assert rig.counts().damaged == {}, "this isn't damage"
        assert rig.counts().offered <= 4
        if "started" in state.acknowledged:
            assert rig.contents() == kept

    whole = with_history()
    life(Rig(whole, keys=KEYS, seed=7))
    for index in range(len(whole.calls)):
        disk, kept = with_history(), set[bytes]()
        disk.fail(index, Killed())
        with contextlib.suppress(Killed):
            life(Rig(disk, keys=KEYS, seed=7))
        disk.heal()
        if cut := violation(start, law, disk):
            pytest.fail(f"killed at call {index}; {cut}")


class Forgetful(CrashDisk):
    """Doesn't sync the files of one kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def sync(self, path: str) -> None:
        if self._kind not in path:
            super().sync(path)

    def sync_folder(self, folder: str) -> None:
        if self._kind != "folder":
            super().sync_folder(folder)


@pytest.mark.parametrize("kind", [".obj", "keys", "folder"])
def test_a_disk_that_forgets_one_kind_of_file_is_noticed(kind: str) -> None:
    story = Story(a_purpose_is_erased_and_lives_on)
    assert violation(story.scenario, story.law, Forgetful(kind)) is not None


# --- flipped bits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_every_single_bit_flip_costs_at_most_the_object_that_it_is_in(apart: int) -> None:
    """Five apart, each place in a byte has its turn."""
    disk = with_history()
    rig = Rig(disk, keys=KEYS, seed=5)
    rig.put(3, size=40)
    rig.put(4, size=40, purpose=Purpose.SAFETY)
    rig.store.stored(rig.put(5, size=40))
    files = {name: len(disk.read(name)) for name in objects_in(disk)}
    assert len(files) == 3
    # Of the books and keys, all that is written in them, and some of the zeros behind.
    twins = dict.fromkeys(("books.0", "books.1", "keys.0", "keys.1"), 400)
    for path, length in (files | twins).items():
        for bit in range(0, length * 8, apart if path in files else 3 * apart):
            flipped = disk.after_shutdown()
            flipped.flip_bit(path, bit)
            after = Rig(flipped, no_counters(was_lost=True), keys=KEYS, seed=6)
            readable = 0
            for ref in after.store.kept():
                with contextlib.suppress(ObjectGone):
                    assert after.read(ref) in {content(n, 40) for n in (2, 3, 4)}
                    readable += 1
            assert readable == (2 if path in files else 3), f"bit {bit} of {path}"
            assert sum(after.counts().damaged.values()) == (path in files)


def a_store() -> tuple[CrashDisk, Rig]:
    disk = with_history()
    return disk, Rig(disk, keys=KEYS, seed=5)


def after_a_flip(disk: CrashDisk, path: str) -> Rig:
    flipped = disk.after_shutdown()
    flipped.flip_bit(path, 8 * 30)
    rig = Rig(flipped, no_counters(was_lost=True), keys=KEYS, seed=6)
    assert rig.counts().damaged == {}
    return rig


@pytest.mark.parametrize("path", ["books.0", "books.1"])
def test_an_erasure_that_lost_a_page_is_an_erasure_and_takes_nothing_that_came_later(path: str) -> None:
    # Mutation: the page that begins it, or one that ends it, in one twin only.
    disk, rig = a_store()
    begun = len(disk.calls)
    rig.store.erase(Purpose.SAFETY)
    ended = len(disk.calls)
    later = rig.put(3, purpose=Purpose.SAFETY)
    after = after_a_flip(disk, path)
    assert (after.store.kept(), after.counts().erased) == ((later,), 1)
    for index in range(begun, ended):
        disk, rig = a_store()
        disk.fail(index, Killed())
        with contextlib.suppress(Killed):
            rig.store.erase(Purpose.SAFETY)
        disk.heal()
        counts = after_a_flip(disk, path).counts()
        assert counts.kept + counts.erased == 1
        # The next start finishes it, and the purpose lives on.
        later = Rig(disk, keys=KEYS, seed=10).put(3, purpose=Purpose.SAFETY)
        after = after_a_flip(disk, path)
        assert later in after.store.kept()
        assert after.counts().kept + after.counts().erased == 2


@pytest.mark.parametrize("path", ["books.0", "books.1"])
def test_books_that_lost_a_page_take_no_object_that_came_later(path: str) -> None:
    # Mutation: without next_serial in the books an old page names the file of a new object as one that has left.
    disk = CrashDisk()
    rig = Rig(disk, keys=KEYS, seed=5)
    rig.store.stored(rig.put(1))
    rig.store.close()
    for _ in range(3):
        rig.open()
        kept = rig.put(2)
        flipped = disk.after_shutdown()
        flipped.flip_bit(path, 8 * 12)
        after = Rig(flipped, no_counters(was_lost=True), keys=KEYS, seed=6)
        assert after.store.kept() == (kept,)
        rig.store.stored(kept)
