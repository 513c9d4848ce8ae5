"""Every sync that a vehicle's updates ask for is needed: left out, a law of some test notices."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest

from ecu.crashdisk import CrashDisk, violation
from ecu.twin import TwinRecord
from ota import launcher
from ota.kinds import Kind
from tests.crash.updates.laws import holds
from tests.crash.updates.lives import changes, resumes
from tests.crash.updates.traced import Traced, noticed_sites
from tests.crash.updates.vehicle import Diary, Life, Lived
from tests.ota.launcher.test_records import ARMED, counted_or_not

ROOT: Final = Path(__file__).parents[3]
ELSEWHERE: Final = MappingProxyType(
    {
        "ecu/twin.py TwinRecord._settled: sync_folder":
            "tests/crash/test_twin.py::test_both_syncs_of_the_first_read_are_needed",
        "ecu/twin.py TwinRecord._settled: sync":
            "tests/crash/test_twin.py::test_both_syncs_of_the_first_read_are_needed",
        "ota/denied.py Denied._put: sync_folder": "tests/ota/test_denied.py::test_every_sync_is_needed",
        "ota/slots.py Slots.put_block: sync_folder":
            "tests/ota/test_landing.py::test_a_sync_of_a_download_that_is_left_out_is_noticed",
        "ota/slots.py Slots.sync_blocks: sync":
            "tests/ota/test_landing.py::test_a_sync_of_a_download_that_is_left_out_is_noticed",
        "ota/slots.py Slots.seal: sync":
            "tests/ota/test_landing.py::test_a_sync_of_a_seal_over_what_a_killed_download_left_in_memory_is_noticed",
        "ota/launcher.py Twin.write: sync_folder":
            "tests/crash/updates/test_syncs.py::test_the_launcher_settles_the_name_of_a_record_that_a_killed_agent_left",
    }
)  # fmt: skip
"""Those that only a killed process, or a download without a seal, shows: where that is asked."""


def sites(lives: list[tuple[Lived, Kind]]) -> Iterator[str]:
    for life, kind in lives:
        disk = Traced()
        life(Life(disk, Diary(kind)))
        yield from disk.sites


def test_each_sync_that_is_shown_to_be_needed_elsewhere_is_there_and_so_is_its_test() -> None:
    there = set(sites([(changes, Kind.MODEL), (changes, Kind.RUNTIME), (resumes, Kind.RUNTIME)]))
    assert set(ELSEWHERE) - {"ecu/twin.py TwinRecord._settled: sync"} <= there
    for test in ELSEWHERE.values():
        path, _, name = test.partition("::")
        assert name in {
            node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)
        }


def noticed(life: Lived, kind: Kind, known: set[str]) -> set[str]:
    diary = Diary(kind)
    life(Life(CrashDisk(), diary))
    found = noticed_sites(lambda disk: life(Life(disk, Diary(kind))), lambda state: holds(diary, state), known)
    return {site for site, is_noticed in found if is_noticed}


@pytest.mark.soak
def test_every_sync_is_needed() -> None:
    known = set(ELSEWHERE)
    for life, kind in ((changes, Kind.CAMPAIGN), (changes, Kind.MODEL), (changes, Kind.RUNTIME)):
        known |= noticed(life, kind, known)
    asked_for = set(sites([(life, kind) for life in (changes, resumes) for kind in (Kind.MODEL, Kind.RUNTIME)]))
    assert asked_for <= known


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
