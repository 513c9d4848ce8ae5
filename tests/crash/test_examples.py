"""The example store through every power cut its disk can have."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from ecu.crashdisk import CrashDisk, CrashState, violation
from ecu.disk import DiskError
from telemetry.federated.examples import Example, ExampleStore
from tests.crash.test_objects import Forgetful, Killed
from tests.telemetry.federated.test_examples import LIMITS, NOW, example, later, opened


class Story:
    """One life of a store, and what had been promised at each mark."""

    def __init__(self, tell: Callable[[Story], None]) -> None:
        self._tell = tell

    def scenario(self, disk: CrashDisk) -> None:
        self.disk, self.store = disk, opened(disk, seed=5)
        self.kept: list[set[int]] = [{number for number in range(20) if example(number) in self.store.read(NOW)}]
        self.offered: set[int] = set(self.kept[0])
        self.purged: list[set[int]] = [set()]
        disk.mark("begun")
        self._tell(self)

    def put(self, number: int) -> None:
        self.offered.add(number)
        # Until it is durable what was there before is promised, but for what had to make room.
        self._promise(self.kept[-1] - self._oldest(), self.purged[-1])
        if self.store.put(example(number)) is None:
            self._promise(self._there(), self.purged[-1])

    def purge(self) -> None:
        gone = self.kept[-1]
        self._promise(set(), self.purged[-1])
        self.store.purge()
        self._promise(set(), self.purged[-1] | gone)

    def restart(self) -> None:
        self.store = opened(self.disk, seed=len(self.kept) + 10)

    def _oldest(self) -> set[int]:
        return {min(self.kept[-1])} if len(self.kept[-1]) == LIMITS.most else set()

    def _there(self) -> set[int]:
        there = self.store.read(NOW)
        return {number for number in range(20) if example(number) in there}

    def _promise(self, kept: set[int], purged: set[int]) -> None:
        self.kept.append(set(kept))
        self.purged.append(set(purged))
        self.disk.mark(str(len(self.kept) - 1))

    def law(self, state: CrashState) -> None:
        if "begun" not in state.acknowledged:
            return
        at = max((int(mark) for mark in state.acknowledged - {"begun"}), default=0)
        after = opened(state.disk, seed=77)
        there = whole(after)
        assert self.kept[at] <= there, f"{self.kept[at] - there} are gone"
        assert not there & self.purged[at], "what was purged came back"
        assert there <= self.offered
        assert after.counts().holds
        assert not [name for name in state.disk.names("") if name.endswith(".tmp")]
        assert after.put(example(19)) is None
        assert 19 in whole(opened(state.disk.after_shutdown(), seed=78))


def files(disk: CrashDisk) -> list[str]:
    return [name for name in disk.names("") if ".ex" in name]


def whole(store: ExampleStore) -> set[int]:
    there: list[Example] = store.read(NOW)
    numbers = {number for number in range(20) if example(number) in there}
    assert len(numbers) == len(there), "what is kept is whole, and once"
    return numbers


def examples_come(story: Story) -> None:
    story.put(1)
    story.put(2)
    story.restart()
    story.put(3)


def a_full_store_makes_room(story: Story) -> None:
    for number in range(1, 8):
        story.put(number)


def a_purpose_is_purged_and_lives_on(story: Story) -> None:
    story.put(1)
    story.put(2)
    story.purge()
    story.put(3)


def with_history() -> CrashDisk:
    disk = CrashDisk()
    store = opened(disk, seed=0)
    store.put(example(0))
    return disk.after_shutdown()


@pytest.mark.parametrize("tell", [examples_come, a_full_store_makes_room, a_purpose_is_purged_and_lives_on],
                         ids=lambda tell: tell.__name__)  # fmt: skip
@pytest.mark.parametrize("prepare", [CrashDisk, with_history], ids=["first life", "later life"])
def test_no_power_cut_takes_a_kept_example_or_brings_a_purged_one_back(
    tell: Callable[[Story], None], prepare: Callable[[], CrashDisk]
) -> None:
    story = Story(tell)
    if cut := violation(story.scenario, story.law, prepare()):
        pytest.fail(cut)


def test_what_has_expired_stays_expired_whatever_is_cut() -> None:
    def life(disk: CrashDisk) -> None:
        opened(disk, now=later(31), seed=6)
        disk.mark("expired")

    def law(state: CrashState) -> None:
        if "expired" in state.acknowledged:
            assert files(state.disk) == []
        assert opened(state.disk, now=later(31), seed=7).read(later(31)) == []

    assert violation(life, law, with_history()) is None


def test_a_kill_within_a_purge_and_a_cut_after_it_leave_all_or_nothing_readable() -> None:
    whole_run = with_history()
    opened(whole_run, seed=1).purge()
    for index in range(len(with_history().calls), len(whole_run.calls)):
        disk = with_history()
        disk.fail(index, Killed())
        with contextlib.suppress(Killed):
            opened(disk, seed=1).purge()
        disk.heal()

        def start(again: CrashDisk) -> None:
            opened(again, seed=2).purge()
            again.mark("purged")

        def law(state: CrashState) -> None:
            left = files(state.disk)
            after = opened(state.disk, seed=3)
            assert "purged" not in state.acknowledged or (after.read(NOW) == [] and left == [])
            with contextlib.suppress(DiskError):
                after.purge()
            assert opened(state.disk.after_shutdown(), seed=4).read(NOW) == []

        if cut := violation(start, law, disk):
            pytest.fail(f"killed at call {index}; {cut}")


@pytest.mark.parametrize("kind", [".ex", "keys", "folder"])
def test_a_disk_that_forgets_one_kind_of_file_is_noticed(kind: str) -> None:
    story = Story(a_purpose_is_purged_and_lives_on)
    assert violation(story.scenario, story.law, Forgetful(kind)) is not None


def test_what_a_start_found_after_a_kill_is_still_there_after_a_cut() -> None:
    def life(disk: CrashDisk) -> None:
        store = opened(disk, seed=1)
        store.put(example(1))
        store.put(example(2))

    whole_run = with_history()
    life(whole_run)
    for index in range(len(with_history().calls), len(whole_run.calls)):
        disk, found = with_history(), set[int]()
        disk.fail(index, Killed())
        with contextlib.suppress(Killed):
            life(disk)
        disk.heal()

        def start(again: CrashDisk, found: set[int] = found) -> None:
            found.update(whole(opened(again, seed=2)))
            again.mark("started")

        def law(state: CrashState, found: set[int] = found) -> None:
            assert "started" not in state.acknowledged or whole(opened(state.disk, seed=3)) == found

        if cut := violation(start, law, disk):
            pytest.fail(f"killed at call {index}; {cut}")
