"""The signing desk over damage, tampering and keys that can't be used: nothing of it comes under a signature."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Targets

from ecu.disk import RealDisk
from ota.kinds import Kind
from ota.manifest import encode_manifest
from ota.repository import Desk, KeyFolder
from ota.repository.keys import root_keys
from ota.repository.metadata import sign
from tests.ota.drafting import add, installs, refusal, tree
from tests.ota.fleet import CAR, Fleet, Unsynced


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
