"""Which plan is in use: of the signed ones the first that can be used, and the owner's own where none can."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.signals.plans import PLAN_FILE, PlanShelf
from telemetry.signals import plan


class Releases:
    """Folders of releases, the one under trial first."""

    def __init__(self, root: Path) -> None:
        self.folders: list[Path] = []
        self._root = root

    def sign(self, plan: bytes | None) -> Path:
        folder = self._root / f"release-{len(self.folders)}"
        folder.mkdir()
        if plan is not None:
            (folder / PLAN_FILE).write_bytes(plan)
        self.folders.insert(0, folder)
        return folder


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path)


@pytest.fixture
def shelf(releases: Releases) -> PlanShelf:
    return PlanShelf(lambda: releases.folders, "own.plan")


def in_use(shelf: PlanShelf) -> bytes:
    return Path(shelf.path()).read_bytes()


def test_the_file_has_the_name_that_plans_have() -> None:
    assert plan.PLAN_FILE == PLAN_FILE


def test_the_owners_file_counts_until_something_is_signed(shelf: PlanShelf, releases: Releases) -> None:
    assert shelf.path() == "own.plan"
    assert not shelf.refuse("own.plan", "no plan")
    releases.sign(b"one")
    assert in_use(shelf) == b"one"


def test_one_that_cannot_be_used_leaves_the_last_one_in_use(shelf: PlanShelf, releases: Releases) -> None:
    one = releases.sign(b"one")
    bad = releases.sign(b"bad")
    assert not shelf.is_ready(bad)
    assert shelf.refuse(shelf.path(), "group 0: no CAN id")
    assert (in_use(shelf), shelf.refused) == (b"one", "group 0: no CAN id")
    assert (shelf.why_not(bad), shelf.why_not(one)) == ("group 0: no CAN id", "")
    again = PlanShelf(lambda: releases.folders, "own.plan")
    assert in_use(again) == b"bad", "a later version may take it"


def test_a_plan_is_in_use_once_its_process_is_ready_and_not_before(shelf: PlanShelf, releases: Releases) -> None:
    one = releases.sign(b"one")
    assert not shelf.is_ready(one)
    shelf.settle(shelf.path())
    assert shelf.is_ready(one)
    two = releases.sign(b"two")
    assert shelf.is_ready(one)
    assert not shelf.is_ready(two)


def test_the_next_release_is_tried_although_the_one_before_was_refused(shelf: PlanShelf, releases: Releases) -> None:
    releases.sign(b"bad")
    shelf.refuse(shelf.path(), "no")
    releases.sign(b"two")
    assert (in_use(shelf), shelf.refused) == (b"two", "")


@pytest.mark.parametrize("plan", [b"bad", None])
def test_a_first_release_that_cannot_be_used_leaves_the_owners_own(
    shelf: PlanShelf, releases: Releases, plan: bytes | None
) -> None:
    folder = releases.sign(plan)
    if plan is not None:
        assert shelf.refuse(shelf.path(), "no")
    assert shelf.path() == "own.plan"
    assert shelf.why_not(folder)
    assert not shelf.is_ready(folder)
