"""Which campaigns are in force: the last ones that were signed and taken, whatever becomes of later ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.signals.campaigns import CampaignShelf
from agent.signals.messages import Admission
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFull
from telemetry.capture.campaigns.campaign import CAMPAIGNS_FILE, MAX_CAMPAIGNS_BYTES

TAKEN = Admission(1, "")
REFUSED = Admission(2, "campaigns[0]: too much")


class Releases:
    """The slot in which the newest signed release lies: each is written over the one before the last."""

    def __init__(self, folder: Path) -> None:
        self.folder: Path | None = None
        self._folder = folder

    def sign(self, campaigns: bytes) -> None:
        self.folder = self._folder
        (self._folder / CAMPAIGNS_FILE).write_bytes(campaigns)

    def where(self) -> Path | None:
        return self.folder


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path)


def test_nothing_signed_is_nothing_in_force(releases: Releases) -> None:
    shelf = CampaignShelf(CrashDisk(), releases.where, None)
    assert (shelf.candidates(), shelf.newest()) == ((), b"")


def test_what_was_taken_stays_in_force_when_its_successor_is_refused_and_over_a_start(releases: Releases) -> None:
    disk = CrashDisk()
    shelf = CampaignShelf(disk, releases.where, None)
    releases.sign(b"one")
    assert shelf.candidates() == (b"one",)
    shelf.settle(b"one", TAKEN)
    releases.sign(b"two")
    assert shelf.newest() == b"two"
    shelf.settle(b"two", REFUSED)
    for here in (shelf, CampaignShelf(disk, releases.where, None)):
        assert here.candidates() == (b"one", b"two")


def test_the_owners_own_file_counts_until_something_is_signed_and_is_never_kept(
    releases: Releases, tmp_path: Path
) -> None:
    shipped = tmp_path / "own.json"
    shipped.write_bytes(b"own")
    disk = CrashDisk()
    shelf = CampaignShelf(disk, releases.where, shipped)
    assert shelf.candidates() == (b"own",)
    shelf.settle(b"own", TAKEN)
    assert not disk.exists(CAMPAIGNS_FILE)
    releases.sign(b"one")
    assert shelf.candidates() == (b"one",)


def test_campaigns_that_cannot_be_read_leave_the_last_ones_in_force(releases: Releases, tmp_path: Path) -> None:
    shelf = CampaignShelf(CrashDisk(), releases.where, None)
    releases.sign(b"one")
    shelf.settle(b"one", TAKEN)
    (tmp_path / CAMPAIGNS_FILE).unlink()
    assert (shelf.candidates(), shelf.newest()) == ((b"one",), b"one")


def test_more_than_may_be_is_read_no_further_than_it_takes_to_tell(releases: Releases) -> None:
    shelf = CampaignShelf(CrashDisk(), releases.where, None)
    releases.sign(b"x" * (MAX_CAMPAIGNS_BYTES + 1000))
    assert len(shelf.newest()) == MAX_CAMPAIGNS_BYTES + 1


def test_flash_that_is_full_leaves_what_was_taken_in_force_and_says_so(releases: Releases) -> None:
    disk = CrashDisk()
    shelf = CampaignShelf(disk, releases.where, None)
    releases.sign(b"one")
    disk.fail(lambda call: call.act == "write_at", DiskFull("no space for it"))
    shelf.settle(b"one", TAKEN)
    assert shelf.fault == "no space for it"
    assert shelf.candidates() == (b"one",)
