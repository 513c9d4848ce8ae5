"""Which plan is in use: the one that was signed last and could be used, whatever becomes of later ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.signals.plans import PLAN_FILE, PlanShelf


class Releases:
    """Two slots, written over in turn."""

    def __init__(self, root: Path) -> None:
        self.newest: Path | None = None
        self._root = root
        self._number = 0

    def sign(self, plan: bytes) -> None:
        self.newest = self._root / "ab"[self._number % 2]
        self._number += 1
        self.newest.mkdir(exist_ok=True)
        (self.newest / PLAN_FILE).write_bytes(plan)

    def where(self) -> Path | None:
        return self.newest


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path)


@pytest.fixture
def shelf(tmp_path: Path, releases: Releases) -> PlanShelf:
    (tmp_path / "kept").mkdir()
    return PlanShelf(tmp_path / "kept", releases.where, "own.plan")


def in_use(shelf: PlanShelf) -> bytes:
    return Path(shelf.path()).read_bytes()


def test_the_owners_file_counts_until_something_is_signed(shelf: PlanShelf, releases: Releases) -> None:
    assert shelf.path() == "own.plan"
    assert not shelf.refuse("own.plan", "no plan")
    releases.sign(b"one")
    assert in_use(shelf) == b"one"


def test_one_that_cannot_be_used_leaves_the_last_one_in_use_over_a_start(
    shelf: PlanShelf, releases: Releases, tmp_path: Path
) -> None:
    releases.sign(b"one")
    shelf.settle(shelf.path())
    releases.sign(b"bad")
    assert shelf.refuse(shelf.path(), "group 0: no CAN id")
    assert (in_use(shelf), shelf.refused) == (b"one", "group 0: no CAN id")
    again = PlanShelf(tmp_path / "kept", releases.where, "own.plan")
    assert in_use(again) == b"bad", "a later version may take it"
    assert again.refuse(again.path(), "no")
    assert in_use(again) == b"one"


def test_the_next_release_is_tried_although_the_one_before_was_refused(shelf: PlanShelf, releases: Releases) -> None:
    for plan in (b"one", b"bad", b"two"):
        releases.sign(plan)
        if plan == b"bad":
            shelf.refuse(shelf.path(), "no")
        else:
            shelf.settle(shelf.path())
            assert (in_use(shelf), shelf.refused) == (plan, "")


def test_a_first_release_that_cannot_be_used_leaves_the_owners_own(shelf: PlanShelf, releases: Releases) -> None:
    releases.sign(b"bad")
    assert shelf.refuse(shelf.path(), "no")
    assert shelf.path() == "own.plan"


def test_one_that_was_kept_and_is_damaged_by_now_leaves_the_owners_own(shelf: PlanShelf, releases: Releases) -> None:
    releases.sign(b"one")
    shelf.settle(shelf.path())
    releases.sign(b"bad")
    assert shelf.refuse(shelf.path(), "no")
    kept = Path(shelf.path())
    kept.write_bytes(b"rotten")
    assert shelf.refuse(str(kept), "rotten")
    assert (shelf.path(), shelf.refused) == ("own.plan", "rotten")


def test_what_is_kept_is_written_once_however_often_its_process_begins(shelf: PlanShelf, releases: Releases) -> None:
    releases.sign(b"one")
    shelf.settle(shelf.path())
    kept = releases.where().parent / "kept" / PLAN_FILE  # type: ignore[union-attr]
    before = kept.stat().st_ino
    shelf.settle(shelf.path())
    assert (kept.stat().st_ino, kept.read_bytes()) == (before, b"one")
