"""Every sync that a vehicle's updates ask for is needed: left out, a law of some test notices."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest

from ecu.crashdisk import CrashDisk, CrashState, violation
from ecu.twin import TwinRecord
from ota import launcher
from ota.kinds import Kind
from tests.crash.updates.laws import holds
from tests.crash.updates.lives import changes, resumes
from tests.crash.updates.traced import Site, Traced, unnoticed_sites
from tests.crash.updates.vehicle import Diary, Life, Lived
from tests.ota.launcher.test_records import ARMED, counted_or_not

ROOT: Final = Path(__file__).parents[3]
SECOND_WRITE: Final = "Slots.write > TwinRecord.write_both > TwinRecord._put > TwinRecord._lay_down > sync"
"""Of a record whose files are there."""
ELSEWHERE: Final = MappingProxyType(
    {
        "TwinRecord._settled > TwinRecord._lay_down > sync":
            "tests/crash/test_twin.py::test_both_syncs_of_the_first_read_are_needed",
        "TwinRecord._settled > sync_folder":
            "tests/crash/test_twin.py::test_both_syncs_of_the_first_read_are_needed",
        "Denied._put > sync_folder": "tests/ota/test_denied.py::test_every_sync_is_needed",
        "Slots.put_block > sync_folder":
            "tests/ota/test_landing.py::test_a_sync_of_a_download_that_is_left_out_is_noticed",
        "Slots.sync_blocks > sync":
            "tests/ota/test_landing.py::test_a_sync_of_a_download_that_is_left_out_is_noticed",
        "Slots.seal > sync":
            "tests/ota/test_landing.py::test_a_sync_of_a_seal_over_what_a_killed_download_left_in_memory_is_noticed",
        "Twin.write > sync_folder":
            "tests/crash/updates/test_syncs.py::test_the_launcher_settles_the_name_of_a_record_that_a_killed_agent_left",
    }
)  # fmt: skip
"""Those that only a killed process, or a download without a seal, shows, by how their paths end: where that is
asked."""

NEEDLESS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Floors.make_room > TwinRecord.write_both > TwinRecord._put > TwinRecord._lay_down > move_in > move_all_in > "
        "sync_folder": "the floors' first record says nothing: where its name is lost, the next commit makes it anew",
    }
)
"""Those that no test can miss, each with the reason."""

NEEDLESS_OF_THE_FIRST: Final = (
    "Slots.write > TwinRecord.write_both > TwinRecord._put > TwinRecord._lay_down > move_in > move_all_in > sync_folder"
)
"""Where the first record is made: that of the second twin makes the names of both durable, before anything is promised.
Each is asked for by the one way in which a file is replaced."""


def is_shown_elsewhere(site: Site) -> bool:
    return any(f" {site.path}".endswith(f" {end}") for end in (*ELSEWHERE, *NEEDLESS))


def sites(lives: Sequence[tuple[Lived, Kind]]) -> Iterator[Site]:
    for life, kind in lives:
        disk = Traced()
        life(Life(disk, Diary(kind)))
        yield from disk.sites


def test_each_sync_that_is_shown_to_be_needed_elsewhere_is_there_and_so_is_its_test() -> None:
    there = {site.path for site in sites([(changes, Kind.MODEL), (changes, Kind.RUNTIME), (resumes, Kind.RUNTIME)])}
    for end in (*ELSEWHERE, *NEEDLESS):
        assert any(f" {path}".endswith(f" {end}") for path in there), end
    for test in ELSEWHERE.values():
        path, _, name = test.partition("::")
        assert name in {
            node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)
        }


def noticed(life: Lived, kind: Kind, asked_about: set[Site], law: Callable[[Diary, CrashState], None]) -> set[Site]:
    """Those of them that the law misses in that life."""
    diary = Diary(kind)
    life(Life(CrashDisk(), diary))
    its = asked_about & set(sites([(life, kind)]))
    return its - unnoticed_sites(lambda disk: life(Life(disk, Diary(kind))), lambda state: law(diary, state), its)


def test_the_two_twins_of_a_record_are_two_places_and_each_is_noticed() -> None:
    """The planted fault: a law that says yes to everything."""
    both = {site for site in sites([(changes, Kind.CAMPAIGN)]) if site.path == SECOND_WRITE}
    assert len(both) == 2
    assert noticed(changes, Kind.CAMPAIGN, both, holds) == both
    assert noticed(changes, Kind.CAMPAIGN, both, lambda diary, state: None) == set()


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_every_sync_is_needed() -> None:
    lives = [(life, kind) for life in (changes, resumes) for kind in (Kind.CAMPAIGN, Kind.MODEL, Kind.RUNTIME)]
    left = {site for site in sites(lives) if not is_shown_elsewhere(site)}
    for life, kind in lives:
        left -= noticed(life, kind, left, holds)
    both = {site for site in sites(lives) if site.path == NEEDLESS_OF_THE_FIRST}
    assert left == {min(both, key=lambda site: site.lines)}


def test_the_launcher_settles_the_name_of_a_record_that_a_killed_agent_left() -> None:
    """The agent was killed between the rename of the second twin and the sync of its folder."""

    def prepared(leaves_out: bool) -> CrashDisk:
        disk = CrashDisk()
        disk.make_folder("runtime")
        TwinRecord(disk, "runtime/boot").write_both(b"{}")
        disk.remove("runtime/boot.1")
        disk.sync_folder("runtime")
        disk = disk.after_shutdown()
        disk.create("runtime/boot.1")
        disk.write_at("runtime/boot.1", 0, launcher.encode(3, launcher.packed(ARMED)))
        disk.sync("runtime/boot.1")
        if leaves_out:
            # The first thing the launcher does is to lay the newest down once more: its file, then its folder.
            disk.without_sync(1)
        return disk

    def count(disk: CrashDisk) -> None:
        twin = launcher.Twin(disk, "runtime/boot")
        twin.write(launcher.packed(launcher.begun(launcher.unpacked(twin.read()), "boot-1")))
        disk.mark("counted")

    assert violation(count, counted_or_not, prepared(leaves_out=False)) is None
    assert violation(count, counted_or_not, prepared(leaves_out=True)) is not None
