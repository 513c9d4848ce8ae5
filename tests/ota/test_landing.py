"""Blocks that are synced while the next ones come: a cut may take the last of them, and never a slot that was named."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import DiskFault, DiskFull, RealDisk
from ota.errors import NoRoomForUpdate
from ota.fetch import fetch_bundle, seal_bundle
from ota.kinds import Kind
from ota.landing import MOST_UNSYNCED, InTurn, Landing, Progress
from ota.manifest import BLOCK_BYTES, BundleManifest, encode_manifest, file_entry
from ota.slots import BootRecord, Slot, Slots
from tests.ota.changed import Held
from tests.ota.differing import Shop, manifest_of, the_delta, unwatched, with_release_1

P = ParamSpec("P")
R = TypeVar("R")


class Late(Executor):
    """Flash that is as slow as it can be: nothing is done before somebody waits for it."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        class Waiting(Future[R]):
            def result(self, timeout: float | None = None) -> R:
                return fn(*args, **kwargs)

            def exception(self, timeout: float | None = None) -> BaseException | None:
                return None

        return Waiting()


def small(*sizes: int) -> tuple[BundleManifest, tuple[bytes, ...]]:
    data = tuple(bytes([number + 1]) * size for number, size in enumerate(sizes))
    files = tuple(
        file_entry(f"{number}.bin", (d[at : at + BLOCK_BYTES] for at in range(0, len(d), BLOCK_BYTES)))
        for number, d in enumerate(data)
    )
    made = BundleManifest(kind=Kind.MODEL, name="drive", version="1.0", release=1, hardware=("any",), files=files)
    return made, data


class Install:
    """Three files into slot a, and what has to hold of it at any power cut."""

    def __init__(self, syncs: Executor, *sizes: int) -> None:
        self.syncs = syncs
        self.manifest, self.data = small(*sizes)

    def __call__(self, disk: CrashDisk) -> None:
        slots = Slots(disk, Kind.MODEL)
        slots.empty(Slot.A)
        self.fetch(slots)
        disk.mark("fetched")
        installed = seal_bundle(encode_manifest(self.manifest), slots, Slot.A)
        slots.write(BootRecord(good=Slot.A, slots={Slot.A: installed}))
        disk.mark("named")

    def fetch(self, slots: Slots) -> None:
        fetch_bundle(Held(*self.data), self.manifest, slots, Slot.A, unwatched, self.syncs)

    def holds(self, state: CrashState) -> None:
        slots = Slots(state.disk, Kind.MODEL)
        if "fetched" in state.acknowledged:
            there = all(slots.has_block(Slot.A, *block) for block in self.manifest.blocks())
            assert there, "what was fetched stays, as slow as flash may be"
        if Slot.A in slots.record.slots:
            slots.demand_bootable(Slot.A)
            return
        assert "named" not in state.acknowledged
        slots.empty(Slot.A)
        self.fetch(slots)
        seal_bundle(encode_manifest(self.manifest), slots, Slot.A)


@pytest.mark.parametrize("syncs", [InTurn(), Late()])
def test_at_any_power_cut_what_was_named_is_whole_and_what_wasnt_can_be_finished(syncs: Executor) -> None:
    install = Install(syncs, BLOCK_BYTES + 5, 0, 77)
    assert violation(install, install.holds, CrashDisk()) is None


def test_a_sync_of_a_download_that_is_left_out_is_noticed() -> None:
    install = Install(Late(), 300, 77)

    def fetches(disk: CrashDisk) -> None:
        slots = Slots(disk, Kind.MODEL)
        slots.empty(Slot.A)
        install.fetch(slots)
        disk.mark("fetched")

    # The folder is synced as each file comes into it: of two files the first one's is made up for.
    assert unnoticed_without(fetches, install.holds) == ["sync 0: sync_folder 'model/a/files'"]


def test_a_sync_of_a_seal_over_what_a_killed_download_left_in_memory_is_noticed() -> None:
    install = Install(InTurn(), 300, 77)

    def killed() -> CrashDisk:
        disk = CrashDisk()
        slots = Slots(disk, Kind.MODEL)
        slots.empty(Slot.A)
        for entry, data in zip(install.manifest.files, install.data, strict=True):
            disk.create(path := f"{slots.path(Slot.A)}/{entry.path}")
            disk.write_at(path, 0, data)
        return disk

    def seals(disk: CrashDisk) -> None:
        slots = Slots(disk, Kind.MODEL)
        installed = slots.seal(Slot.A, encode_manifest(install.manifest))
        slots.write(BootRecord(good=Slot.A, slots={Slot.A: installed}))
        disk.mark("named")

    its_own = [sync for sync in unnoticed_without(seals, install.holds, killed) if "model/a/" in sync]
    assert its_own == []


def test_a_power_cut_during_a_delta_takes_nothing_from_the_slot_it_is_made_of() -> None:
    before = CrashDisk()
    with_release_1(before)
    before = before.after_shutdown()

    def updates(disk: CrashDisk) -> None:
        slots = Slots(disk, Kind.MODEL)
        fetch_bundle(Shop(the_delta()), manifest_of(2), slots, Slot.B, unwatched, Late())
        installed = seal_bundle(encode_manifest(manifest_of(2)), slots, Slot.B)
        slots.write(BootRecord(good=Slot.B, slots={**slots.record.slots, Slot.B: installed}))

    def one_of_them_boots(state: CrashState) -> None:
        slots = Slots(state.disk, Kind.MODEL)
        slots.demand_bootable(slots.record.good)

    assert violation(updates, one_of_them_boots, before) is None


def test_no_more_waits_for_flash_than_it_may() -> None:
    manifest, data = small((2 * MOST_UNSYNCED + 3) * BLOCK_BYTES)
    disk, worst = CrashDisk(), 0
    slots = Slots(disk, Kind.MODEL)
    slots.empty(Slot.A)

    def look(_: Progress) -> None:
        nonlocal worst
        calls = [call for call in disk.calls if call.path.endswith("0.bin") and call.act in ("write_at", "sync")]
        synced = max((at for at, call in enumerate(calls) if call.act == "sync"), default=-1)
        worst = max(worst, len(calls) - 1 - synced)

    fetch_bundle(Held(*data), manifest, slots, Slot.A, look, Late())
    assert MOST_UNSYNCED <= worst <= 2 * MOST_UNSYNCED


@pytest.mark.parametrize("syncs", [InTurn(), Late()])
def test_a_disk_that_is_full_only_when_it_syncs_gives_back_what_was_fetched(syncs: Executor) -> None:
    manifest, data = small(3 * BLOCK_BYTES)
    disk = CrashDisk()
    slots = Slots(disk, Kind.MODEL)
    slots.empty(Slot.A)
    disk.fail(lambda call: call.act == "sync" and call.path.endswith("0.bin"), DiskFull("No space left on device."))
    with pytest.raises(NoRoomForUpdate):
        fetch_bundle(Held(*data), manifest, slots, Slot.A, unwatched, syncs)
    assert disk.names(str(slots.path(Slot.A))) == []


@pytest.mark.parametrize("syncs", [InTurn(), Late()])
def test_a_sync_that_failed_ends_the_download(syncs: Executor) -> None:
    manifest, data = small(3 * BLOCK_BYTES)
    disk = CrashDisk()
    slots = Slots(disk, Kind.MODEL)
    slots.empty(Slot.A)
    disk.fail(lambda call: call.act == "sync" and call.path.endswith("0.bin"), DiskFault("worn out"))
    with pytest.raises(DiskFault):
        fetch_bundle(Held(*data), manifest, slots, Slot.A, unwatched, syncs)


def test_a_watch_that_stops_it_is_heard_over_a_sync_that_fails() -> None:
    class Stop(Exception):
        pass

    manifest, data = small(BLOCK_BYTES)
    slots = Slots(CrashDisk(), Kind.MODEL)
    slots.empty(Slot.A)

    def stops(_: Progress) -> None:
        raise Stop

    with pytest.raises(Stop), Landing(slots, Slot.A, Progress(1, 0, 0), stops, Late()) as landing:
        landing.fetched(manifest.files[0], 0, data[0])


def test_in_a_thread_of_its_own_all_arrives(tmp_path: Path) -> None:
    manifest, data = small(5 * BLOCK_BYTES + 3, 10, 2 * BLOCK_BYTES)
    slots = Slots(RealDisk(tmp_path), Kind.MODEL)
    slots.empty(Slot.A)
    with ThreadPoolExecutor(1) as flash:
        came = fetch_bundle(Held(*data), manifest, slots, Slot.A, unwatched, flash)
    assert came.fetched == manifest.size
    seal_bundle(encode_manifest(manifest), slots, Slot.A)
    for entry, content in zip(manifest.files, data, strict=True):
        assert (tmp_path / str(slots.path(Slot.A)) / entry.path).read_bytes() == content
