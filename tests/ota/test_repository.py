"""The signing desk: what it publishes a vehicle accepts, and nothing that wasn't signed by enough gets there.

Mutants of ota/repository that these tests, and those of its kills and damage, were seen to catch: the published version
of a role taken from the newest file; a draft's version not raised after a cut; the timestamp written before the rest; a
base that isn't verified; no check of the signer, of the threshold, of the online keys, of the release number, of the
draft's manifests and files; a copy that isn't compared, or not removed after a failure; a file that is there taken for
whole; a key written over.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Targets

from ecu.clock import SteppingClock
from ecu.disk import RealDisk
from ota.errors import TrustError
from ota.kinds import Kind
from ota.layout import published
from ota.manifest import BLOCK_BYTES, BundleManifest, encode_manifest
from ota.repository import Desk, KeyFolder
from ota.repository.files import entry_of, take
from ota.repository.keys import ALL_KEYS, Owners, online_keys
from ota.repository.metadata import Lifetimes
from tests.ota.drafting import add, folder_with, installs, refusal, tree
from tests.ota.fleet import CAR, HARDWARE, NOW_NS, Fleet, Unsynced

# --- what is published ------------------------------------------------------------------------------


def test_what_the_desk_publishes_the_vehicle_accepts(fleet: Fleet, state: Path) -> None:
    desk = Desk(Unsynced(fleet.repo), fleet.clock)
    for version, release in (("1.0", 1), ("1.1", 2), ("2.0", 3)):
        manifest = add(fleet, version, release, os.urandom(BLOCK_BYTES + release))
        fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
        desk.publish(fleet.keys, [CAR], [manifest.target])
        assert installs(fleet, state) == [f"{manifest.target} {release}"]
    assert [manifest.version for manifest in fleet.images.releases()] == ["1.0", "1.1", "2.0"]


def test_every_kind_can_be_released_to_one_vehicle(fleet: Fleet, state: Path) -> None:
    for kind in Kind:
        add(fleet, "1.0", 1, kind.encode(), kind)
        fleet.images.sign(kind, [fleet.keys.signer(kind)])
    targets = [kind.target("drive", "1.0") for kind in Kind]
    published = Desk(Unsynced(fleet.repo), fleet.clock).publish(fleet.keys, [CAR, "car-2"], targets)
    assert set(published.kinds) == set(Kind)
    for vehicle in (CAR, "car-2"):
        assert len(installs(fleet, state / vehicle, vehicle)) == len(Kind)


def test_a_draft_changes_nothing_for_vehicles_until_it_is_published(fleet: Fleet, state: Path) -> None:
    first = fleet.release("1.0", 1)
    fleet.assign(first)
    before = {path: data for path, data in tree(fleet.repo).items() if "metadata/" in path or "vehicles/" in path}
    add(fleet, "2.0", 2)
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    after = {path: data for path, data in tree(fleet.repo).items() if "metadata/" in path or "vehicles/" in path}
    assert after == before
    assert installs(fleet, state) == [f"{first.target} 1"]
    assert "model/drive-1.0.json" in refusal(lambda: fleet.images.target("model/drive-2.0.json"))
    assert not [path for path in tree(fleet.repo) if "drafts" in path and published(path, CAR)]


def test_a_publication_without_drafts_makes_everything_last_longer_and_changes_nothing(
    fleet: Fleet, state: Path
) -> None:
    desk = Desk(Unsynced(fleet.repo), fleet.clock)
    fleet.assign(fleet.release("1.0", 1))
    fleet.assign(vehicle="car-2")
    for _ in range(3):
        fleet.pass_days(6)
        told = desk.publish(fleet.keys)
        assert (told.kinds, told.assigned, told.left) == ((), (), ())
        assert [its.targets for its in told.renewed] == [("model/drive-1.0.json",), ()]
        assert installs(fleet, state) == ["model/drive-1.0.json 1"]
        assert installs(fleet, state / "2", "car-2") == []


def test_without_the_directors_keys_vehicles_are_left_as_they_are_and_that_is_said(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    desk = Desk(Unsynced(fleet.repo), fleet.clock)
    for name in online_keys("director"):
        (fleet.folder / f"keys/{name}.pem").unlink()
        told = desk.publish(fleet.keys)
        assert [its.vehicle for its in told.left] == [CAR]
    assert installs(fleet, state) == ["model/drive-1.0.json 1"]
    before = tree(fleet.repo)
    refusal(lambda: desk.publish(fleet.keys, [CAR], ["model/drive-1.0.json"]))
    assert tree(fleet.repo) == before


def test_an_assignment_is_all_that_a_vehicle_is_to_have(fleet: Fleet, state: Path) -> None:
    desk = Desk(Unsynced(fleet.repo), fleet.clock)
    targets = [fleet.release("1.0", 1, kind=kind).target for kind in (Kind.MODEL, Kind.EVALUATION)]
    desk.publish(fleet.keys, [CAR], targets)
    assert len(installs(fleet, state)) == 2
    desk.publish(fleet.keys, [CAR], targets[:1])
    assert installs(fleet, state) == [f"{targets[0]} 1"]
    desk.publish(fleet.keys, [CAR], [])
    assert installs(fleet, state) == []


def test_every_publication_raises_versions_and_none_is_ever_written_over(fleet: Fleet) -> None:
    seen: dict[str, bytes] = {}
    for number in range(1, 6):
        if number % 2:
            fleet.assign(fleet.release(f"{number}.0", number))
        else:
            Desk(Unsynced(fleet.repo), fleet.clock).publish(fleet.keys)
        now = {path: data for path, data in tree(fleet.repo).items() if not path.endswith("timestamp.json")}
        assert {path: now[path] for path in seen} == seen
        seen = now
    assert [its.version for its in fleet.images.standings() if its.role in ("snapshot", "timestamp", "model")] == [
        6, 6, 4,
    ]  # fmt: skip


def test_a_kind_that_was_not_released_for_long_is_renewed_by_its_own_key(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    desk = Desk(Unsynced(fleet.repo), fleet.clock)
    fleet.pass_days(89)
    fleet.images.renew(Kind.MODEL)
    refusal(lambda: desk.publish(fleet.keys))
    draft = fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    assert draft.changes == ()
    desk.publish(fleet.keys)
    fleet.pass_days(80)
    desk.publish(fleet.keys)
    assert installs(fleet, state) == ["model/drive-1.0.json 1"]


# --- who signs --------------------------------------------------------------------------------------


def test_a_draft_that_nobody_has_signed_is_not_published(fleet: Fleet) -> None:
    add(fleet, "1.0", 1)
    before = tree(fleet.repo)
    assert refusal(fleet.publish).startswith("The draft of kind model has 0 of 1 signatures by keys for model.")
    assert tree(fleet.repo) == before
    Desk(Unsynced(fleet.repo), fleet.clock).publish(fleet.keys, with_drafts=False)
    assert fleet.images.targets() == []
    assert len(fleet.images.drafts()) == 1


@pytest.mark.parametrize("name", ["campaign", "image-targets", "image-root-1", "director-targets"])
def test_a_key_of_something_else_is_refused_at_the_desk(fleet: Fleet, name: str) -> None:
    add(fleet, "1.0", 1)
    before = tree(fleet.repo)
    words = refusal(lambda: fleet.images.sign(Kind.MODEL, [fleet.keys.signer(name)]))
    assert "can't sign model" in words
    assert ("campaign's" in words) == (name == "campaign")
    assert tree(fleet.repo) == before


def test_a_change_after_the_signature_needs_a_new_one(fleet: Fleet) -> None:
    add(fleet, "1.0", 1)
    assert fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")]).standing.is_signed
    add(fleet, "1.1", 2)
    assert not fleet.images.drafts()[0].standing.is_signed
    refusal(fleet.publish)


@pytest.fixture
def shared(tmp_path: Path) -> Fleet:
    """Two of three people sign models."""
    fleet = Fleet.__new__(Fleet)
    fleet.folder, fleet.repo = tmp_path / "shared", tmp_path / "shared" / "repo"
    fleet.clock = SteppingClock(wall_ns=NOW_NS)
    fleet.keys = KeyFolder(fleet.folder / "keys")
    fleet.keys.generate([*ALL_KEYS, "anna", "ben", "carl", "dora"])
    fleet.repo.mkdir()
    desk = Desk(Unsynced(fleet.repo), fleet.clock)
    fleet.images, fleet.director = desk.images, desk.director
    desk.found(fleet.keys, {Kind.MODEL: Owners(2, ("anna", "ben", "carl"))})
    return fleet


def test_each_kind_is_delegated_alone_and_nobody_is_asked_after_it(fleet: Fleet) -> None:
    top = Metadata[Targets].from_file(str(fleet.repo / "image/metadata/1.targets.json")).signed
    assert top.delegations is not None
    roles = (top.delegations.roles or {}).values()
    assert [(role.name, role.paths, role.terminating) for role in roles] == [
        (kind.value, [f"{kind}/*"], True) for kind in Kind
    ]


def test_where_two_of_three_sign_one_and_its_double_are_too_few(shared: Fleet, state: Path) -> None:
    add(shared, "1.0", 1)
    for signers in (["anna"], ["anna"], ["anna", "anna"]):
        draft = shared.images.sign(Kind.MODEL, shared.keys.signers(signers))
        assert (len(draft.standing.signed_by), draft.standing.threshold) == (1, 2)
        assert "1 of 2 signatures" in refusal(shared.publish)
    for stranger in ("dora", "model", "config"):
        refusal(shared.images.sign, Kind.MODEL, [shared.keys.signer(stranger)])
    draft = shared.images.sign(Kind.MODEL, [shared.keys.signer("carl")])
    assert set(draft.standing.signed_by) == {shared.keys.key_id("anna"), shared.keys.key_id("carl")}
    Desk(Unsynced(shared.repo), shared.clock).publish(shared.keys, [CAR], ["model/drive-1.0.json"])
    assert installs(shared, state) == ["model/drive-1.0.json 1"]


def test_two_of_three_root_keys_make_a_root_and_one_makes_none(shared: Fleet) -> None:
    (root, *_), path = shared.images.standings(), shared.repo / "image/metadata/1.root.json"
    assert (root.threshold, len(root.signed_by)) == (2, 3)
    content = json.loads(path.read_text())
    content["signatures"] = content["signatures"][:2]
    path.write_text(json.dumps(content))
    assert len(Desk(RealDisk(shared.repo), shared.clock).images.standings()[0].signed_by) == 2
    content["signatures"] = content["signatures"][:1]
    path.write_text(json.dumps(content))
    assert "isn't what the keys of root signed" in refusal(Desk(RealDisk(shared.repo), shared.clock).note)


@pytest.mark.parametrize(
    ("owners", "words"),
    [
        ({Kind.MODEL: Owners(2, ("anna",))}, "wants 2 signatures by 1 keys"),
        ({Kind.MODEL: Owners(0, ("anna",))}, "wants 0 signatures"),
        ({Kind.MODEL: Owners(1, ("anna", "anna"))}, "is model's already"),
        ({Kind.MODEL: Owners(1, ("anna",)), Kind.CONFIG: Owners(1, ("anna",))}, "anna of config is model's already"),
        ({Kind.MODEL: Owners(1, ("image-timestamp",))}, "is timestamp's already"),
        ({Kind.MODEL: Owners(1, ("image-root-1",))}, "image-root-1 of model is root's already"),
        ({Kind.MODEL: Owners(1, ("director-targets",))}, "of the director is model's already"),
        ({Kind.MODEL: Owners(1, ("director-root-3",))}, "of the director is model's already"),
        ({Kind.MODEL: Owners(1, ("copy",)), Kind.CONFIG: Owners(1, ("anna",))}, "anna of config is model's already"),
    ],
)
def test_a_key_is_for_one_thing_also_under_another_name(tmp_path: Path, owners: Any, words: str) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.generate([*ALL_KEYS, "anna"])
    shutil.copy(tmp_path / "keys/anna.pem", tmp_path / "keys/copy.pem")
    (tmp_path / "repo").mkdir()
    assert words in refusal(lambda: Desk(RealDisk(tmp_path / "repo"), SteppingClock()).found(keys, owners))
    assert tree(tmp_path / "repo") == {}


def test_online_keys_of_another_fleet_publish_nothing(fleet: Fleet, tmp_path: Path, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    stranger = KeyFolder(tmp_path / "stranger")
    stranger.generate()
    before = tree(fleet.repo)
    words = refusal(lambda: Desk(Unsynced(fleet.repo), fleet.clock).publish(stranger))
    assert "in --keys isn't the one that this repository" in words
    assert "director-targets in --keys isn't the one" in refusal(fleet.director.assign, CAR, [], stranger)
    for name in ("image-timestamp", "director-snapshot", "director-timestamp"):
        mixed = KeyFolder(shutil.copytree(fleet.folder / "keys", tmp_path / name))
        shutil.copy(tmp_path / f"stranger/{name}.pem", tmp_path / name / f"{name}.pem")
        act = fleet.director.assign if name.startswith("director") else None
        words = refusal(act, CAR, [], mixed) if act else refusal(Desk(Unsynced(fleet.repo), fleet.clock).publish, mixed)
        assert f"The key {name} in --keys" in words
        # All that can be refused is, before anything is written.
        refusal(Desk(Unsynced(fleet.repo), fleet.clock).publish, mixed)
        refusal(Desk(Unsynced(fleet.repo), fleet.clock).publish, mixed, [CAR], ["model/drive-1.0.json"])
    assert tree(fleet.repo) == before
    assert installs(fleet, state) == ["model/drive-1.0.json 1"]


# --- numbers ----------------------------------------------------------------------------------------


def test_the_same_version_with_other_bytes_needs_a_higher_release(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 5))
    stored = tree(fleet.repo / "image/files")
    for release in (1, 4, 5):
        words = refusal(add, fleet, "1.0", release, b"other")
        assert "published with other bytes as release 5" in words
    assert fleet.images.drafts() == ()
    assert tree(fleet.repo / "image/files") == stored
    add(fleet, "1.0", 6, b"other")
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    Desk(Unsynced(fleet.repo), fleet.clock).publish(fleet.keys)
    # Whoever was to have this version has its newer release: renewed assignments follow what is published.
    assert installs(fleet, state) == ["model/drive-1.0.json 6"]


def test_the_releases_from_which_no_vehicle_would_go_on_are_named(fleet: Fleet) -> None:
    def of(version: str, release: int, *hardware: str) -> list[str]:
        files = add(fleet, "9.0", 9, kind=Kind.CONFIG).files
        return fleet.images.not_below(
            BundleManifest(
                kind=Kind.MODEL, name="drive", version=version, release=release, hardware=hardware, files=files
            )
        )

    fleet.release("1.0", 5, hardware=("x86_64", "aarch64"))
    add(fleet, "2.0", 7)
    one, two = "model/drive-1.0.json", "model/drive-2.0.json"
    assert of("3.0", 8, "any") == []
    assert of("3.0", 7, "any") == of("3.0", 7, HARDWARE) == [two]
    assert of("3.0", 6, "any") == [two]
    assert of("3.0", 5, "any") == [one, two]
    assert of("3.0", 5, "aarch64") == [one]
    assert of("3.0", 5, "riscv64") == []
    assert of("1.0", 5, "any") == [two]


def test_a_draft_may_be_corrected_before_it_is_published(fleet: Fleet) -> None:
    add(fleet, "1.0", 1, b"forgot something")
    corrected = add(fleet, "1.0", 1, b"complete")
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    fleet.publish()
    assert fleet.images.manifest(corrected.target) == corrected


def test_adding_what_is_published_already_changes_nothing(fleet: Fleet) -> None:
    fleet.release("1.0", 1)
    before = tree(fleet.repo)
    add(fleet, "1.0", 1)
    assert tree(fleet.repo) == before
    assert fleet.images.drafts() == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "Drive"}, "with the name Drive. A name has"),
        ({"name": "\x1b[2Jx"}, "with the name \\x1b[2Jx."),
        ({"version": "1"}, "A version is two or three numbers"),
        ({"version": "1.0\n"}, "with the version 1.0\\n."),
        ({"release": 0}, "A release is a whole number from 1 on"),
        ({"hardware": ("X 86",)}, "Hardware is named by"),
        ({"hardware": ()}, "Hardware is named by"),
    ],
)
def test_what_cant_be_released_is_refused_before_anything_is_written(
    fleet: Fleet, tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    folder = folder_with(tmp_path / "in", model_onnx=b"weights")
    before = tree(fleet.repo)
    usual = {"kind": Kind.MODEL, "name": "drive", "version": "1.0", "release": 1, "hardware": ("any",)}
    assert words in refusal(lambda: fleet.images.add(folder, **{**usual, **given}))
    assert tree(fleet.repo) == before


# --- folders ----------------------------------------------------------------------------------------


def test_only_a_runtime_has_folders_and_a_bundle_has_plain_files_alone(fleet: Fleet, tmp_path: Path) -> None:
    def of(name: str, make: Callable[[Path], object]) -> str:
        folder = folder_with(tmp_path / name, good_onnx=b"x")
        make(folder)
        return refusal(lambda: fleet.images.add(folder, Kind.MODEL, "drive", "1.0", 1, ("any",)))

    def as_file(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.write_bytes(b"")

    assert "is an empty folder" in of("sub", lambda folder: (folder / "sub").mkdir())
    assert "only a runtime has folders" in of("full", lambda folder: folder_with(folder / "sub", a_txt=b"a"))
    assert "isn't a plain file" in of("link", lambda folder: (folder / "link").symlink_to("/etc/passwd"))
    assert "isn't a plain file" in of("dangling", lambda folder: (folder / "link").symlink_to("nowhere"))
    assert "isn't a plain file" in of("pipe", lambda folder: os.mkfifo(folder / "pipe"))
    assert "can't be in a bundle" in of("hidden", lambda folder: (folder / ".hidden").write_bytes(b""))
    assert "\\x1b[2J" in of("screen", lambda folder: (folder / "\x1b[2J").write_bytes(b""))
    assert "can't be in a bundle" in of(
        "latin", lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch()
    )
    assert "is empty" in of("empty", lambda folder: (folder / "good.onnx").unlink())
    assert "No such file" in of("gone", lambda folder: shutil.rmtree(folder))
    assert "Not a directory" in of("file", as_file)
    assert tree(fleet.repo / "image/files") == {}


def test_a_file_that_changes_while_it_is_read_is_refused_and_leaves_nothing(fleet: Fleet, tmp_path: Path) -> None:
    begun = bytes(BLOCK_BYTES + 10)
    for changed in (b"Y" + begun[1:], begun[:-1], begun[:BLOCK_BYTES], b"", begun + b"1", begun + begun):
        path = folder_with(tmp_path / f"in-{len(changed)}{changed[:1]!r}", model_onnx=begun) / "model.onnx"
        entry = entry_of(path.name, path, lambda _: None)
        path.write_bytes(changed)
        words = refusal(take, RealDisk(fleet.repo), path, entry, lambda _: None)
        assert "while it was read" in words
    assert tree(fleet.repo / "image/files") == {}


def test_a_large_file_is_read_block_by_block(tmp_path: Path) -> None:
    class Counting(RealDisk):
        longest = 0

        def write_at(self, path: str, offset: int, data: bytes) -> None:
            self.longest = max(self.longest, len(data))
            super().write_at(path, offset, data)

    path = folder_with(tmp_path / "in", model_onnx=os.urandom(3 * BLOCK_BYTES + 5)) / "model.onnx"
    (tmp_path / "repo").mkdir()
    disk, read = Counting(tmp_path / "repo"), list[int]()
    entry = entry_of(path.name, path, read.append)
    take(disk, path, entry, read.append)
    assert disk.longest == max(read) == BLOCK_BYTES
    assert sum(read) == 2 * entry.size
    assert (tmp_path / "repo/image/files" / entry.sha256).read_bytes() == path.read_bytes()


def test_a_damaged_file_of_the_repository_is_mended_by_adding_it_again(fleet: Fleet, state: Path) -> None:
    manifest = fleet.release("1.0", 1, content := os.urandom(BLOCK_BYTES + 1))
    fleet.assign(manifest)
    path = fleet.repo / "image/files" / manifest.files[0].sha256
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(TrustError, match="tampered: block 0"):
        installs(fleet, state)
    add(fleet, "1.0", 1, content)
    assert installs(fleet, state) == ["model/drive-1.0.json 1"]


def test_metadata_lasts_as_long_as_the_desk_was_told(fleet: Fleet) -> None:
    desk = Desk(Unsynced(fleet.repo), fleet.clock, Lifetimes(root=1, targets=2, timestamp=3))
    fleet.images.renew(Kind.MODEL)
    desk.images.renew(Kind.CONFIG)
    assert encode_manifest(add(fleet, "1.0", 1))
    for kind in (Kind.MODEL, Kind.CONFIG):
        fleet.images.sign(kind, [fleet.keys.signer(kind)])
    desk.publish(fleet.keys, [CAR], [])
    day = {its.role: (its.expires.timestamp() - NOW_NS / 1e9) / 86_400 for its in desk.images.standings()}
    assert (day["timestamp"], day["snapshot"], day["config"], day["model"], day["root"]) == (3, 3, 2, 90, 365)
    assert desk.director.assignment(CAR).expires.timestamp() == NOW_NS / 1e9 + 3 * 86_400
