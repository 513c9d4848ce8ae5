"""The signing desk: what it publishes a vehicle accepts, and nothing that wasn't signed by enough gets there.

Mutants of ota/repository that these tests were seen to catch: the published version of a role taken from the newest
file; a draft's version not raised after a cut; the timestamp written before the rest; a base that isn't verified; no
check of the signer, of the threshold, of the online keys, of the release number, of the draft's manifests and files; a
copy that isn't compared, or not removed after a failure; a file that is there taken for whole; a key written over.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Targets

from ecu.clock import SteppingClock
from ecu.crashdisk import Call, CrashDisk
from ecu.disk import DiskFault, DiskFull, RealDisk
from ota.errors import NotThere, RepositoryFault, TrustError
from ota.fetch import check_bundle, fetch_manifest
from ota.floors import Floors
from ota.kinds import Kind
from ota.layout import published
from ota.manifest import BLOCK_BYTES, BundleManifest, decode_manifest, encode_manifest
from ota.repository import Desk, KeyFolder
from ota.repository.files import entry_of, take
from ota.repository.keys import ALL_KEYS, Owners, online_keys, root_keys
from ota.repository.metadata import Lifetimes, sign
from ota.source import PART_BYTES, Source
from ota.trust import Roots, Trust, Vehicle
from tests.ota.changed import Open
from tests.ota.fleet import CAR, HARDWARE, NOW_NS, Fleet, Unsynced


class Killed(BaseException):
    """SIGKILL: nobody catches it."""


def folder_with(at: Path, **files: bytes) -> Path:
    at.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (at / name.replace("_", ".")).write_bytes(content)
    return at


def add(
    fleet: Fleet, version: str, release: int, content: bytes = b"weights", kind: Kind = Kind.MODEL
) -> BundleManifest:
    folder = folder_with(fleet.folder / f"in-{kind}-{version}-{release}", model_onnx=content)
    return fleet.images.add(folder, kind, "drive", version, release, (HARDWARE,))


def installs(fleet: Fleet, state: Path, vehicle: str = CAR) -> list[str]:
    """What the vehicle would install, every block of it looked at."""
    source = fleet.source(vehicle)
    offers = fleet.trust(state, vehicle=vehicle).refresh(source)
    manifests = [decode_manifest(fetch_manifest(source, offer)) for offer in offers]
    for manifest in manifests:
        check_bundle(source, manifest, lambda _: None)
    return [f"{manifest.target} {manifest.release}" for manifest in manifests]


def refusal(act: Callable[..., object], *arguments: object) -> str:
    """One paragraph for whoever sits at the desk."""
    with pytest.raises(RepositoryFault) as refused:
        act(*arguments)
    words = str(refused.value)
    assert words.isprintable()
    assert len(words) < 600
    return words


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def test_only_a_flat_folder_of_plain_files_is_a_bundle(fleet: Fleet, tmp_path: Path) -> None:
    def of(name: str, make: Callable[[Path], object]) -> str:
        folder = folder_with(tmp_path / name, good_onnx=b"x")
        make(folder)
        return refusal(lambda: fleet.images.add(folder, Kind.MODEL, "drive", "1.0", 1, ("any",)))

    def as_file(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.write_bytes(b"")

    assert "isn't a plain file" in of("sub", lambda folder: (folder / "sub").mkdir())
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
        entry = entry_of(path, lambda _: None)
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
    entry = entry_of(path, read.append)
    take(disk, path, entry, read.append)
    assert disk.longest == max(read) == BLOCK_BYTES
    assert sum(read) == 2 * entry.size
    assert (tmp_path / "repo/image/files" / entry.sha256).read_bytes() == path.read_bytes()


def test_a_damaged_file_of_the_repository_is_mended_by_adding_it_again(fleet: Fleet, state: Path) -> None:
    manifest = fleet.release("1.0", 1, content := os.urandom(BLOCK_BYTES + 1))
    fleet.assign(manifest)
    path = fleet.repo / "image/files" / manifest.files[0].sha256
    path.write_bytes(b"?" + content[1:])
    with pytest.raises(TrustError, match="tampered: block 0"):
        installs(fleet, state)
    add(fleet, "1.0", 1, content)
    assert installs(fleet, state) == ["model/drive-1.0.json 1"]


# --- damage and tampering ---------------------------------------------------------------------------


def test_what_somebody_without_keys_put_into_the_repository_never_comes_under_a_signature(fleet: Fleet) -> None:
    manifest = fleet.release("1.0", 1)
    path = fleet.repo / "image/metadata/2.model.json"
    whole = path.read_bytes()
    planted = Metadata[Targets].from_bytes(whole)
    target = planted.signed.targets[manifest.target]
    planted.signed.targets["model/planted-1.0.json"] = type(target).from_dict(
        target.to_dict(), "model/planted-1.0.json"
    )
    planted.to_file(str(path))
    for act in (lambda: add(fleet, "2.0", 2), lambda: fleet.images.renew(Kind.MODEL), fleet.images.targets):
        assert "2.model.json of the repository isn't what the keys of model signed" in refusal(act)
    path.write_bytes(whole)
    add(fleet, "2.0", 2)
    # In the draft itself nothing is signed yet: who signs is shown what changes, and publishing looks at its manifest.
    draft_path = fleet.repo / "drafts/model.json"
    draft = Metadata[Targets].from_file(str(draft_path))
    draft.signed.targets |= {"model/planted-1.0.json": planted.signed.targets["model/planted-1.0.json"]}
    draft.to_file(str(draft_path))
    shown = fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    assert [change.target for change in shown.changes] == ["model/drive-2.0.json", "model/planted-1.0.json"]
    assert "The repository has no image/targets/model/" in refusal(fleet.publish)


def test_a_draft_that_takes_something_out_says_so(fleet: Fleet) -> None:
    fleet.release("1.0", 1)
    add(fleet, "2.0", 2)
    path = fleet.repo / "drafts/model.json"
    draft = Metadata[Targets].from_file(str(path))
    del draft.signed.targets["model/drive-1.0.json"]
    draft.to_file(str(path))
    changes = fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")]).changes
    assert [(change.target, bool(change.sha256)) for change in changes] == [
        ("model/drive-2.0.json", True), ("model/drive-1.0.json", False),
    ]  # fmt: skip


@pytest.mark.parametrize("more", ["delegation", "field", "number"])
def test_a_draft_that_says_more_than_its_releases_is_neither_signed_nor_published(fleet: Fleet, more: str) -> None:
    """Whoever signs is shown releases: a delegation to a stranger would come under the signature unseen."""
    add(fleet, "1.0", 1)
    path = fleet.repo / "drafts/model.json"
    draft = Metadata[Targets].from_file(str(path))
    match more:
        case "delegation":
            key = fleet.keys.signer("campaign").public_key
            role = DelegatedRole("planted", [key.keyid], 1, terminating=True, paths=["model/*"])
            draft.signed.delegations = Delegations({key.keyid: key}, {"planted": role})
        case "field":
            draft.signed.unrecognized_fields["x-more"] = 1
        case _:
            draft.signed.version = 1 << 31
    draft.to_file(str(path))
    assert "says more than what its releases are" in refusal(
        fleet.images.sign, Kind.MODEL, [fleet.keys.signer("model")]
    )
    draft.sign(fleet.keys.signer("model"))
    draft.to_file(str(path))
    assert "says more than what its releases are" in refusal(fleet.publish)


def test_a_release_that_a_vehicle_is_to_have_is_not_taken_out_behind_its_back(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    add(fleet, "2.0", 2)
    path = fleet.repo / "drafts/model.json"
    draft = Metadata[Targets].from_file(str(path))
    del draft.signed.targets["model/drive-1.0.json"]
    draft.to_file(str(path))
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    desk, before = Desk(Unsynced(fleet.repo), fleet.clock), tree(fleet.repo)
    words = refusal(desk.publish, fleet.keys)
    assert words.startswith(f"{CAR} is to have model/drive-1.0.json, which would be no release any more.")
    assert "There is no release" in refusal(desk.publish, fleet.keys, [CAR], ["model/drive-1.0.json"])
    assert tree(fleet.repo) == before
    desk.publish(fleet.keys, with_drafts=False)
    desk.publish(fleet.keys, [CAR], ["model/drive-2.0.json"])
    assert installs(fleet, state) == ["model/drive-2.0.json 2"]


def test_a_root_that_the_one_before_did_not_sign_is_not_believed(fleet: Fleet, tmp_path: Path) -> None:
    """Its own keys signed it: those of whoever put it there."""
    fleet.assign(fleet.release("1.0", 1))
    stranger = KeyFolder(tmp_path / "stranger")
    stranger.generate()
    for name in ("image", "director"):
        root = Metadata[Root].from_file(str(fleet.repo / name / "metadata/1.root.json"))
        root.signed.version = 2
        at = fleet.repo / name / "metadata/2.root.json"
        for signer in stranger.signers(root_keys(name)):
            root.signed.add_key(signer.public_key, "root")
        sign(root, [*stranger.signers(root_keys(name)), fleet.keys.signer(f"{name}-root-1")]).to_file(str(at))
        desk = Desk(RealDisk(fleet.repo), fleet.clock)
        assert "2.root.json of the repository isn't what the keys of root signed" in refusal(desk.note)
        # Signed by those of the one before, and by too few of its own.
        root.signed.roles["root"].keyids = [one.public_key.keyid for one in stranger.signers(root_keys(name))]
        sign(root, fleet.keys.signers(root_keys(name))).to_file(str(at))
        assert "2.root.json of the repository isn't what the keys of root signed" in refusal(desk.note)
        sign(root, [*fleet.keys.signers(root_keys(name)), *stranger.signers(root_keys(name))]).to_file(str(at))
        assert desk.note().releases


def test_a_vehicle_gets_no_assignment_that_was_made_for_another(fleet: Fleet) -> None:
    """Copied within the folder by whoever holds no key, it would come under the director's signature."""
    fleet.assign(fleet.release("1.0", 1))
    folder = fleet.repo / "director/vehicles"
    shutil.copytree(folder / CAR, folder / "car-2")
    desk, before = Desk(Unsynced(fleet.repo), fleet.clock), tree(fleet.repo)
    assert f"car-2/1.targets.json of the repository is for {CAR}." in refusal(desk.publish, fleet.keys)
    assert tree(fleet.repo) == before


def test_a_draft_from_before_another_publication_is_not_published(fleet: Fleet, state: Path) -> None:
    path = fleet.repo / "drafts/model.json"
    add(fleet, "1.0", 1)
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    old = path.read_bytes()
    add(fleet, "1.1", 2)
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    fleet.publish()
    path.write_bytes(old)
    assert fleet.images.drafts() == (), "of a version that is published already"
    fleet.publish()
    assert fleet.images.targets() == ["model/drive-1.0.json", "model/drive-1.1.json"]


def test_a_draft_that_says_other_than_its_manifest_is_not_published(fleet: Fleet) -> None:
    add(fleet, "1.0", 1)
    path = fleet.repo / "drafts/model.json"
    draft = Metadata[Targets].from_file(str(path))
    draft.signed.targets["model/drive-1.0.json"].unrecognized_fields["custom"]["release"] = 9
    draft.to_file(str(path))
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    assert "says of model/drive-1.0.json what its manifest doesn't" in refusal(fleet.publish)


def test_a_number_that_was_used_is_never_used_for_another_draft(fleet: Fleet) -> None:
    add(fleet, "1.0", 1)
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    used = Metadata[Targets].from_file(str(fleet.repo / "drafts/model.json"))
    used.signed.targets.clear()
    used.sign(fleet.keys.signer("model"))
    used.to_file(str(fleet.repo / "image/metadata/2.model.json"))
    assert "another one of that number was published" in refusal(fleet.publish)
    add(fleet, "1.0", 1)
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    fleet.publish()
    assert (fleet.repo / "image/metadata/3.model.json").exists()


def test_what_a_cut_publication_may_have_shown_is_not_released_again_with_other_bytes(fleet: Fleet) -> None:
    add(fleet, "1.0", 1)
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    shutil.move(fleet.repo / "drafts/model.json", fleet.repo / "image/metadata/2.model.json")
    assert "published with other bytes as release 1" in refusal(add, fleet, "1.0", 1, b"other")
    assert add(fleet, "1.0", 2, b"other").release == 2


def test_a_manifest_is_no_release_without_its_files(fleet: Fleet) -> None:
    manifest = add(fleet, "1.0", 1)
    (fleet.repo / "drafts/model.json").unlink()
    (fleet.repo / "image/files" / manifest.files[0].sha256).unlink()
    assert "The repository lacks image/files/" in refusal(fleet.images.add_manifest, encode_manifest(manifest))
    assert fleet.images.drafts() == ()


def test_what_somebody_left_in_its_folders_is_no_version(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    for folder in ("image/metadata", f"director/vehicles/{CAR}"):
        for name in ("old.snapshot.json", "copy-of-2.targets.json", "2.model.json.bak", ".model.json"):
            (fleet.repo / folder / name).write_bytes(b"?")
    (fleet.repo / "director/vehicles/README").write_bytes(b"?")
    (fleet.repo / "director/vehicles/car-2").mkdir()
    fleet.assign(fleet.release("2.0", 2))
    Desk(Unsynced(fleet.repo), fleet.clock).publish(fleet.keys)
    assert installs(fleet, state) == ["model/drive-2.0.json 2"]


def test_a_manifest_that_isnt_the_signed_one_is_not_shown(fleet: Fleet) -> None:
    fleet.release("1.0", 1)
    (path,) = (fleet.repo / "image/targets").rglob("*.json")
    path.write_bytes(path.read_bytes().replace(b'"release":1', b'"release":2'))
    assert "it isn't what was signed" in refusal(fleet.images.manifest, "model/drive-1.0.json")


@pytest.mark.parametrize(
    "path",
    ["image/metadata/1.root.json", "image/metadata/1.targets.json", "image/metadata/2.snapshot.json",
     "image/metadata/timestamp.json", "image/metadata/2.model.json", "drafts/config.json",
     "director/metadata/1.root.json", f"director/vehicles/{CAR}/timestamp.json",
     f"director/vehicles/{CAR}/1.snapshot.json", f"director/vehicles/{CAR}/1.targets.json", "image/targets/model"],
)  # fmt: skip
def test_damage_anywhere_is_one_paragraph_that_names_the_file(fleet: Fleet, path: str) -> None:
    fleet.assign(fleet.release("1.0", 1))
    add(fleet, "1.0", 1, b"draft", Kind.CONFIG)
    at = fleet.repo / path
    at = next(at.rglob("*.json")) if at.is_dir() else at
    whole = at.read_bytes()
    other = (fleet.repo / "image/metadata/1.plan.json").read_bytes()
    signed = (
        [whole.replace(b'"expires": "20', b'"expires": "21'), other]
        if "drafts" not in path
        else [(fleet.repo / "image/metadata/2.snapshot.json").read_bytes()]
    )
    for damaged in (b"", b"{}", b"\xff\xfe", whole[:-20], b"[" * 5_000, *(data for data in signed if data != whole)):
        at.write_bytes(damaged)
        assert at.name in refusal(Desk(RealDisk(fleet.repo), fleet.clock).note)
    at.unlink()
    if "drafts" not in path and not path.endswith("timestamp.json"):
        assert at.name in refusal(Desk(RealDisk(fleet.repo), fleet.clock).note)


def test_a_release_whose_files_were_lost_is_not_published(fleet: Fleet) -> None:
    manifest = add(fleet, "1.0", 1)
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    (fleet.repo / "image/files" / manifest.files[0].sha256).unlink()
    words = refusal(fleet.publish)
    assert "which is model.onnx of model drive 1.0 (release 1). Add its folder again" in words
    add(fleet, "1.0", 1)
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    fleet.publish()


@pytest.mark.parametrize("vehicle", ["", "..", "a/b", "\x1b[2J", "x" * 65])
def test_what_cant_be_a_vehicles_name_is_refused(fleet: Fleet, vehicle: str) -> None:
    refusal(lambda: fleet.director.assign(vehicle, [], fleet.keys))
    refusal(lambda: fleet.director.assignment(vehicle))


def test_two_releases_of_one_kind_are_never_assigned(fleet: Fleet) -> None:
    targets = [fleet.release("1.0", 1).target, fleet.release("2.0", 2).target]
    before = tree(fleet.repo)
    words = refusal(lambda: Desk(Unsynced(fleet.repo), fleet.clock).publish(fleet.keys, [CAR], targets))
    assert words.startswith("A vehicle takes one release of a kind, not model/drive-1.0.json and model/drive-2.0.json")
    assert refusal(fleet.director.assign, CAR, list(map(fleet.images.target, targets)), fleet.keys) == words
    assert tree(fleet.repo) == before


def test_a_target_that_isnt_there_is_refused_before_anything_is_written(fleet: Fleet) -> None:
    add(fleet, "1.0", 1)
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    before = tree(fleet.repo)
    desk = Desk(Unsynced(fleet.repo), fleet.clock)
    words = refusal(lambda: desk.publish(fleet.keys, [CAR], ["model/\x1b[2J.json"]))
    assert words == "There is no release model/\\x1b[2J.json here. There are: model/drive-1.0.json."
    refusal(lambda: desk.publish(fleet.keys, [CAR], ["model/drive-1.0.json"], with_drafts=False))
    assert tree(fleet.repo) == before


# --- keys -------------------------------------------------------------------------------------------


def test_a_key_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path / "keys")
    assert keys.generate(["model", "anna", "model"]) == ["model", "anna"]
    before = tree(tmp_path / "keys")
    assert keys.generate(["anna", "ben"]) == ["ben"]
    assert {name: data for name, data in tree(tmp_path / "keys").items() if name != "ben.pem"} == before
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "There is no key model"),
        (lambda path: path.write_bytes(b""), "holds no Ed25519 key"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "holds no Ed25519 key"),
        (lambda path: path.write_bytes(b"\xff" * 100), "holds no Ed25519 key"),
        (lambda path: path.chmod(0o640), "Others can read the key"),
        (lambda path: (path.unlink(), path.mkdir(0o700)), "can't be read: Is a directory"),
        (lambda path: path.write_bytes(_other_key(None)), "isn't Ed25519"),
        (lambda path: path.write_bytes(_other_key(b"secret")), "without a password"),
    ],
)
def test_a_key_that_cant_be_used_is_one_paragraph(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.generate(["model"])
    spoil(tmp_path / "keys/model.pem")
    assert words in refusal(lambda: keys.signer("model"))


def _other_key(password: bytes | None) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


@pytest.mark.parametrize("name", ["", "../model", "Model", "a b", "\x1b[2J", "x" * 49])
def test_what_cant_be_a_keys_name_is_refused_and_makes_no_folder(tmp_path: Path, name: str) -> None:
    keys = KeyFolder(tmp_path / "keys")
    refusal(lambda: keys.generate(["model", name]))
    assert not (tmp_path / "keys").exists()
    refusal(lambda: keys.signer(name))


# --- kills and full disks ---------------------------------------------------------------------------


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
    desk: OnCrashDisk, act: Callable[[CrashDisk], object], prepare: Callable[[CrashDisk], object] = lambda _: None
) -> Iterator[CrashDisk]:
    """The disk after `act` was killed before each call that changes something, after an orderly end of the computer."""
    first = desk.before.after_shutdown()
    prepare(first)
    whole = first.after_shutdown()
    act(whole)
    for index in [call.index for call in whole.calls if changing(call)]:
        disk = first.after_shutdown()
        disk.fail(index, Killed())
        with pytest.raises(Killed):
            act(disk)
        yield disk.after_shutdown()


def test_a_killed_add_changes_nothing_for_vehicles_and_is_finished_by_the_next(desk: OnCrashDisk) -> None:
    kills = 0
    for disk in killed_everywhere(desk, lambda disk: desk.add(disk, 2)):
        kills += 1
        assert desk.seen(disk) == 1
        desk.add(disk, 2)
        desk.publish(disk, 2)
        assert desk.seen(disk) == 2
    assert kills > 20


def test_a_killed_publication_leaves_what_vehicles_see_whole_and_is_finished_by_the_next(desk: OnCrashDisk) -> None:
    seen = set()
    for disk in killed_everywhere(desk, lambda disk: desk.publish(disk, 2), lambda disk: desk.add(disk, 2)):
        seen.add(desk.seen(disk))
        desk.publish(disk, 2)
        assert desk.seen(disk) == 2
        assert desk.desk(disk).images.drafts() == ()
    assert seen == {1, 2}


def test_after_a_killed_publication_another_release_can_be_added(desk: OnCrashDisk) -> None:
    """No number is ever given to other bytes: a vehicle that saw the first would keep them."""
    for disk in killed_everywhere(desk, lambda disk: desk.publish(disk, 2), lambda disk: desk.add(disk, 2)):
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
