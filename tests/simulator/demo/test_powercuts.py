"""The demo's power cuts find what a sync prevents, by finding what happens without it."""

from __future__ import annotations

from ecu.crashdisk import CrashDisk
from simulator.demo.powercuts import cut_power, cuts


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
    next(cuts(1, disk))
    syncs = [call.path for call in disk.calls if call.act.startswith("sync")]
    return [n for n, path in enumerate(syncs) if path.endswith(".seg")]


def test_no_power_cut_takes_what_the_spool_confirmed_and_more_commits_leave_more_disks() -> None:
    one, more = cut_power(1), cut_power(4)
    assert (one.violations, more.violations) == (0, 0)
    assert 200 < one.cuts < more.cuts


def test_a_disk_that_does_not_sync_records_is_caught_and_not_at_every_cut() -> None:
    found = cut_power(1, Hasty(".seg"))
    assert 0 < found.violations < found.cuts


def test_a_disk_that_does_not_sync_names_is_caught() -> None:
    assert not all(cuts(1, Nameless()))


def test_each_single_sync_of_records_is_missed() -> None:
    each = segment_syncs()
    assert len(each) == 3
    for n in each:
        disk = CrashDisk()
        disk.without_sync(n)
        assert not all(cuts(1, disk))
