"""The signing desk, killed at any call or on a disk that fails: vehicles see the release before or the new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecu.crashdisk import Call, CrashDisk
from ecu.disk import DiskFault, DiskFull, RealDisk
from ota.errors import NotThere, TrustError
from ota.fetch import check_bundle, fetch_manifest
from ota.floors import Floors
from ota.kinds import Kind
from ota.layout import published
from ota.manifest import decode_manifest
from ota.repository import Desk, KeyFolder
from ota.repository.rotation import Wanted
from ota.source import PART_BYTES, Source
from ota.trust import Roots, Trust, Vehicle
from tests.ota.changed import Open
from tests.ota.drafting import Killed, folder_with, refusal, tree
from tests.ota.fleet import CAR, HARDWARE, Fleet

ROTATED_AT_ONCE = (
    "image-targets", "image-snapshot", "image-timestamp", "director-targets", "director-snapshot",
    "director-timestamp", "model",
)  # fmt: skip


class OfDisk(Open):
    """A published repository on a disk that may lose power, as one vehicle may see it."""

    def __init__(self, disk: CrashDisk, vehicle: str = CAR) -> None:
        self._disk = disk
        self._vehicle = vehicle

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        at = published(path, self._vehicle)
        if at is None or not self._disk.exists(at):
            raise NotThere(path)
        data = self._disk.read(at)[offset : offset + most]
        yield from (data[part : part + PART_BYTES] for part in range(0, len(data), PART_BYTES))


class OnCrashDisk:
    """The desk on such a disk, with the founded fleet's keys, one release published and assigned, and another ready."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.keys, self.clock = fleet.keys, fleet.clock
        self.folders = {
            release: folder_with(folder / str(release), model_onnx=b"%d" % release * 99) for release in (1, 2, 3)
        }
        disk = CrashDisk()
        for name, data in sorted(tree(fleet.repo).items()):
            disk.make_folder(name.rpartition("/")[0])
            disk.create(name)
            disk.write_at(name, 0, data)
        self.roots = Roots(disk.read("director/metadata/1.root.json"), disk.read("image/metadata/1.root.json"))
        self.add(disk, 1)
        self.publish(disk, 1)
        self.before = disk

    def desk(self, disk: CrashDisk) -> Desk:
        return Desk(disk, self.clock)

    def add(self, disk: CrashDisk, release: int) -> None:
        images = self.desk(disk).images
        images.add(self.folders[release], Kind.MODEL, "drive", f"{release}.0", release, ("any",))
        if any(not draft.standing.is_signed for draft in images.drafts()):
            images.sign(Kind.MODEL, [self.keys.signer("model")])

    def publish(self, disk: CrashDisk, release: int) -> None:
        self.desk(disk).publish(self.keys, [CAR], [f"model/drive-{release}.0.json"])

    def seen(self, disk: CrashDisk) -> int:
        """The release that a vehicle would install, every block of it there. Raises TrustError, FetchError."""
        source: Source = OfDisk(disk)
        state = CrashDisk()
        trust = Trust(state, self.roots, Vehicle(CAR, HARDWARE), Floors(state), self.clock)
        (offer,) = trust.refresh(source)
        manifest = decode_manifest(fetch_manifest(source, offer))
        check_bundle(source, manifest, lambda _: None)
        return manifest.release


@pytest.fixture
def desk(founded: Fleet, tmp_path: Path) -> OnCrashDisk:
    return OnCrashDisk(founded, tmp_path / "in")


def changing(call: Call) -> bool:
    return call.act not in ("read", "read_at", "size", "names")


def killed_everywhere(
    desk: OnCrashDisk,
    act: Callable[[CrashDisk], object],
    prepare: Callable[[CrashDisk], object] = lambda _: None,
    every: int = 1,
) -> Iterator[CrashDisk]:
    """The disk after `act` was killed before each call that changes something, after an orderly end of the computer.
    The last one is always among them."""
    first = desk.before.after_shutdown()
    prepare(first)
    whole = first.after_shutdown()
    act(whole)
    for index in [call.index for call in whole.calls if changing(call)][::-every]:
        disk = first.after_shutdown()
        disk.fail(index, Killed())
        with pytest.raises(Killed):
            act(disk)
        yield disk.after_shutdown()


# A file is six calls: with five between two kills, each of the six has its turn.
SOME = pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.soak), 5])


@SOME
def test_a_killed_add_changes_nothing_for_vehicles_and_is_finished_by_the_next(desk: OnCrashDisk, every: int) -> None:
    kills = 0
    for disk in killed_everywhere(desk, lambda disk: desk.add(disk, 2), every=every):
        kills += 1
        assert desk.seen(disk) == 1
        desk.add(disk, 2)
        desk.publish(disk, 2)
        assert desk.seen(disk) == 2
    assert kills > 20 // every


@SOME
def test_a_killed_publication_leaves_what_vehicles_see_whole_and_is_finished_by_the_next(
    desk: OnCrashDisk, every: int
) -> None:
    seen = set()
    for disk in killed_everywhere(desk, lambda disk: desk.publish(disk, 2), lambda disk: desk.add(disk, 2), every):
        seen.add(desk.seen(disk))
        desk.publish(disk, 2)
        assert desk.seen(disk) == 2
        assert desk.desk(disk).images.drafts() == ()
    assert seen == {1, 2}


@SOME
def test_after_a_killed_publication_another_release_can_be_added(desk: OnCrashDisk, every: int) -> None:
    """No number is ever given to other bytes: a vehicle that saw the first would keep them."""
    for disk in killed_everywhere(desk, lambda disk: desk.publish(disk, 2), lambda disk: desk.add(disk, 2), every):
        written = {name: disk.read(f"image/metadata/{name}") for name in disk.names("image/metadata")}
        desk.add(disk, 3)
        desk.publish(disk, 3)
        assert desk.seen(disk) == 3
        numbered = {name: data for name, data in written.items() if name[0].isdigit() and not name.endswith(".tmp")}
        assert {name: disk.read(f"image/metadata/{name}") for name in numbered} == numbered


def test_at_any_power_cut_vehicles_see_the_release_before_or_the_new_one(desk: OnCrashDisk) -> None:
    disk = desk.before.after_shutdown()
    desk.add(disk, 2)
    desk.publish(disk, 2)
    disk.mark("published")
    for number, state in enumerate(disk.after_crash()):
        # One in nine: each is a whole refresh.
        if number % 9 == 0 or "published" in state.acknowledged:
            assert desk.seen(state.disk) in ((2,) if "published" in state.acknowledged else (1, 2)), state.describe


def test_a_file_whose_name_a_killed_add_left_unsynced_is_durable_before_it_is_published(desk: OnCrashDisk) -> None:
    disk = desk.before.after_shutdown()
    disk.fail(lambda call: call.act == "sync_folder" and call.path == "image/files", Killed())
    with pytest.raises(Killed):
        desk.add(disk, 2)
    disk.heal()
    desk.add(disk, 2)
    desk.publish(disk, 2)
    disk.mark("published")
    for state in disk.after_crash():
        if state.acknowledged:
            assert desk.seen(state.disk) == 2


def test_a_founding_that_was_killed_is_begun_anew(founded: Fleet, tmp_path: Path) -> None:
    keys, clock = founded.keys, founded.clock
    whole = CrashDisk()
    Desk(whole, clock).found(keys, {})
    # One in four: each signs some twenty files.
    for index in [call.index for call in whole.calls if changing(call)][::4]:
        disk = CrashDisk()
        disk.fail(index, Killed())
        with pytest.raises(Killed):
            Desk(disk, clock).found(keys, {})
        disk = disk.after_shutdown()
        if Desk(disk, clock).images.is_founded:
            refusal(Desk(disk, clock).found, keys, {})
        else:
            Desk(disk, clock).found(keys, {})
        assert Desk(disk, clock).note().vehicles == ()


def test_a_repository_is_never_founded_over_one_that_vehicles_have_seen(fleet: Fleet) -> None:
    fleet.assign(fleet.release("1.0", 1))
    before = tree(fleet.repo)
    found = lambda: Desk(RealDisk(fleet.repo), fleet.clock).found(fleet.keys, {})  # noqa: E731
    assert "There is a repository in this folder already" in refusal(found)
    # Not even where the file is lost that everything else hangs on.
    (fleet.repo / "image/metadata/timestamp.json").unlink()
    assert "There is a repository in this folder already" in refusal(found)
    for path in (fleet.repo / "image/metadata").iterdir():
        path.unlink()
    assert "There is a director in this folder already" in refusal(found)
    assert tree(fleet.repo / "director") == {
        path.removeprefix("director/"): data for path, data in before.items() if path.startswith("director/")
    }


@pytest.mark.parametrize("error", [DiskFull("no space"), DiskFault("worn")])
@pytest.mark.parametrize("act", ["create", "write_at", "sync"])
def test_a_disk_that_fails_changes_nothing_for_vehicles_and_leaves_no_half_file(
    desk: OnCrashDisk, act: str, error: Exception
) -> None:
    disk = desk.before.after_shutdown()
    disk.fail(lambda call: call.act == act, error)
    with pytest.raises(type(error)):
        desk.add(disk, 2)
    disk.heal()
    assert desk.seen(disk) == 1
    assert not [name for name in disk.names("image/files") if name.endswith(".tmp")]
    desk.add(disk, 2)
    disk.fail(lambda call: call.act == act, error)
    with pytest.raises(type(error)):
        desk.publish(disk, 2)
    disk.heal()
    assert desk.seen(disk) == 1
    desk.publish(disk, 2)
    assert desk.seen(disk) == 2


def rotated(desk: OnCrashDisk, disk: CrashDisk, keys: KeyFolder) -> None:
    """Signed and not yet published: other online keys in both repositories, and another one for models."""
    its = desk.desk(disk)
    for role in ROTATED_AT_ONCE:
        its.rotate(role, Wanted(its.key_ids(role), (keys.public(role),)))
    for repository in ("image", "director"):
        its.sign(f"{repository}-root", desk.keys.signers([f"{repository}-root-1", f"{repository}-root-3"]))
    its.sign("targets", [keys.signer("image-targets")])
    its.sign("model", [keys.signer("model")])


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.soak), 11])
def test_a_killed_rotation_is_finished_by_the_next_publication(desk: OnCrashDisk, tmp_path: Path, every: int) -> None:
    keys = KeyFolder(tmp_path / "new")
    keys.generate(ROTATED_AT_ONCE)
    kills = refusals = 0
    for disk in killed_everywhere(
        desk, lambda disk: desk.desk(disk).publish(keys), lambda disk: rotated(desk, disk, keys), every
    ):
        kills += 1
        try:
            assert desk.seen(disk) == 1
        except TrustError:
            # Between a root and what its new keys sign nothing can be believed: the same publication mends it.
            refusals += 1
        desk.desk(disk).note()
        desk.desk(disk).publish(keys)
        assert desk.seen(disk) == 1
        assert not desk.desk(disk).drafts()
        assert desk.desk(disk).images.roots.newest().signed.version == 2
        assert desk.desk(disk).director.roots.newest().signed.version == 2
    assert 0 < refusals < kills
