"""The demo's power cuts find what a sync prevents, by finding what happens without it."""

from __future__ import annotations

import pytest

from ecu.crashdisk import CrashDisk
from simulator.demo.powercuts import cut_power


class Hasty(CrashDisk):
    """Takes a sync of a file whose name ends so for done."""

    def __init__(self, ending: str) -> None:
        super().__init__()
        self._ending = ending

    def sync(self, path: str) -> None:
        if not path.endswith(self._ending):
            super().sync(path)


class Nameless(CrashDisk):
    """Never syncs a folder, so that no name is sure."""

    def sync_folder(self, folder: str) -> None: ...


def segment_syncs() -> list[int]:
    """Which of one commit's syncs are of a segment's records."""
    disk = CrashDisk()
    cut_power(1, disk)
    syncs = [call.path for call in disk.calls if call.act.startswith("sync")]
    return [n for n, path in enumerate(syncs) if path.endswith(".seg")]


@pytest.mark.parametrize("commits", [1, 3])
def test_no_power_cut_takes_what_the_spool_confirmed(commits: int) -> None:
    found = cut_power(commits)
    assert found.violations == 0
    assert found.cuts > 200


def test_more_commits_leave_more_disks() -> None:
    assert cut_power(1).cuts < cut_power(4).cuts


@pytest.mark.parametrize("disk", [Hasty(".seg"), Nameless()], ids=["records", "names"])
def test_a_disk_that_does_not_sync_is_caught(disk: CrashDisk) -> None:
    assert cut_power(1, disk).violations > 0


def test_each_single_sync_of_records_is_missed() -> None:
    each = segment_syncs()
    assert len(each) == 3
    for n in each:
        disk = CrashDisk()
        disk.without_sync(n)
        assert cut_power(1, disk).violations > 0
