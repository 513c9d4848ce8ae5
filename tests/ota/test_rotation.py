"""A key that was lost or stolen is replaced, and what it signs afterwards moves no vehicle.

The vehicles are ota/trust.py's own. The desk is driven by its command line, each person with the one key that is
theirs.
Mutants that these tests were seen to catch: the next root published with only the old, or only the new, signatures; a
draft's digest not compared; a signature taken without being verified; delegations published before their own signature;
what a kind published left with the old key's signature; what is said to be published believed unsigned.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Targets

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.errors import EXIT_USAGE, OutriderError
from ota.errors import Attack, RepositoryFault, TrustError
from ota.floors import Floors
from ota.repository import Desk, KeyFolder
from ota.repository.keys import ALL_KEYS
from ota.source import FolderSource
from ota.trust import Offer, Roots, Trust, Vehicle
from outrider import run
from tests.ota.fleet import Unsynced

CAR = "car-1"


@dataclass
class Town:
    """A desk with the online keys, and people elsewhere with one key each."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    roots: Roots

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    @property
    def online(self) -> Path:
        return self.folder / "online"

    def told(self, *words: str | Path) -> Any:
        self.capsys.readouterr()
        assert run(["ota", *map(str, words), "--json"]) == 0
        return json.loads(self.capsys.readouterr().out)

    def refused(self, *words: str | Path) -> str:
        with pytest.raises(OutriderError) as refused:
            self.told(*words)
        assert refused.value.exit_code == EXIT_USAGE
        assert str(refused.value).isprintable()
        return str(refused.value)

    def person(self, name: str, *keys: str) -> Path:
        """A folder with these keys out of the founding's, and their own new one where there are none."""
        at = self.folder / name
        at.mkdir()
        for key in keys:
            shutil.copy(self.folder / "keys" / f"{key}.pem", at)
        if not keys:
            self.told("keygen", "--keys", at, name, "--public")
        return at

    def id_of(self, keys: Path, name: str) -> str:
        its: str = self.told("keygen", "--keys", keys, name)["keys"][0]["key_id"]
        return its

    def sent(self, role: str, name: str = "draft.json") -> tuple[Path, str]:
        path = self.folder / name
        digest: str = self.told("sign", "--repo", self.repo, "--role", role, "--send", path)["digest"]
        return path, digest

    def signed_by(self, person: Path, key: str, draft: Path, digest: str, to: str) -> Path:
        """What that person sends back, having looked at it."""
        copy = person / to
        shutil.copy(draft, copy)
        assert self.told("sign", "--draft", copy)["digest"] == digest
        self.told("sign", "--draft", copy, "--keys", person, "--key", key, "--digest", digest)
        return copy

    def publish(self, *more: str | Path) -> Any:
        return self.told("publish", "--repo", self.repo, "--keys", self.online, *more)

    def release(self, version: str, number: int, signer: Path, key: str = "model") -> str:
        folder = self.folder / f"in-{version}"
        folder.mkdir()
        (folder / "a.bin").write_bytes(version.encode() * 100)
        target: str = self.told(
            "add", folder, "--repo", self.repo, "--kind", "model", "--release", str(number), "--name", "drive",
            "--version", version,
        )["target"]  # fmt: skip
        self.told("sign", "--repo", self.repo, "--keys", signer, "--role", "model", "--key", key)
        self.publish("--vehicle", CAR, "--target", target)
        return target

    def looks(self, state: str, repo: Path | None = None) -> tuple[Offer, ...]:
        """What the vehicle that keeps its metadata there is to have."""
        path = self.folder / state
        path.mkdir(exist_ok=True)
        disk = RealDisk(path)
        trust = Trust(disk, self.roots, Vehicle(CAR, "x86_64"), Floors(disk), SystemClock())
        return trust.refresh(FolderSource(repo or self.repo, CAR))

    def has(self, state: str) -> list[str]:
        return [offer.target for offer in self.looks(state)]


@pytest.fixture(scope="module")
def founded_town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    keys = KeyFolder(folder / "keys")
    keys.generate(ALL_KEYS)
    (folder / "repo").mkdir()
    Desk(Unsynced(folder / "repo"), SystemClock()).found(keys, {})
    (folder / "online").mkdir()
    for name in ALL_KEYS:
        if "-" in name and "-root-" not in name:
            shutil.copy(folder / "keys" / f"{name}.pem", folder / "online")
    return folder


@pytest.fixture
def town(founded_town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Town:
    folder = tmp_path / "town"
    shutil.copytree(founded_town, folder)
    desk = Desk(RealDisk(folder / "repo"), SystemClock())
    return Town(folder, capsys, Roots(desk.director.root(), desk.images.root()))


def test_a_stolen_model_key_signs_nothing_more_once_it_is_replaced(town: Town) -> None:
    thief = town.person("thief", "model")
    assert town.release("1.0", 1, thief) == "model/drive-1.0.json"
    assert town.has("car") == ["model/drive-1.0.json"]
    anna = town.person("anna")
    drafts = town.told(
        "rotate", "model", "--repo", town.repo, "--remove", town.id_of(thief, "model")[:16], "--add", anna / "anna.pub"
    )
    assert drafts["to_sign"] == ["targets", "model"]
    # Until both have signed, everything stays as it was, and the old key can't help it along.
    town.publish()
    assert town.has("car") == ["model/drive-1.0.json"]
    assert "can't sign model" in town.refused(
        "sign", "--repo", town.repo, "--keys", thief, "--role", "model", "--key", "model"
    )
    town.told("sign", "--repo", town.repo, "--keys", town.online, "--role", "targets")
    assert "0 of 1 signatures" in town.refused("publish", "--repo", town.repo, "--keys", town.online)
    draft, digest = town.sent("model")
    back = town.signed_by(anna, "anna", draft, digest, "back.json")
    town.told("sign", "--repo", town.repo, "--import", back)
    assert town.publish()["rotated"] == ["targets"]
    for state in ("car", "new-car"):
        assert town.has(state) == ["model/drive-1.0.json"]
    town.release("2.0", 2, anna, "anna")
    for state in ("car", "new-car"):
        assert town.has(state) == ["model/drive-2.0.json"]
    # What the thief signs, with everything else as it should be, no vehicle takes.
    forged = forged_kind(town, thief)
    with pytest.raises(TrustError) as refused:
        town.looks("car", forged)
    assert refused.value.attack in (Attack.WRONG_SIGNER, Attack.TAMPERED)


def forged_kind(town: Town, thief: Path) -> Path:
    """The repository with the model role's metadata signed by the thief, under its right number."""
    repo = town.folder / "forged"
    shutil.copytree(town.repo, repo)
    newest = sorted((repo / "image/metadata").glob("*.model.json"), key=lambda path: int(path.name.split(".")[0]))[-1]
    metadata = Metadata[Targets].from_file(str(newest))
    metadata.signatures.clear()
    metadata.sign(KeyFolder(thief).signer("model"))
    metadata.to_file(str(newest))
    # A look that has it cached doesn't ask again: this vehicle begins anew.
    shutil.rmtree(town.folder / "car")
    return repo


@pytest.mark.parametrize("repository", ["image", pytest.param("director", marks=pytest.mark.soak)])
def test_a_lost_root_key_is_replaced_by_the_other_two_on_machines_of_their_own(town: Town, repository: str) -> None:
    town.release("1.0", 1, town.person("m", "model"))
    assert town.has("car") == ["model/drive-1.0.json"]
    role = f"{repository}-root"
    people = {n: town.person(f"p{n}", f"{role}-{n}") for n in (1, 2)}
    lost = town.id_of(town.folder / "keys", f"{role}-3")
    new = town.person("carl")
    town.told("rotate", role, "--repo", town.repo, "--remove", lost[:12], "--add", new / "carl.pub")
    draft, digest = town.sent(role)
    first = town.signed_by(people[1], f"{role}-1", draft, digest, "one.json")
    town.told("sign", "--repo", town.repo, "--import", first)
    assert town.publish()["rotated"] == []
    second = town.signed_by(people[2], f"{role}-2", draft, digest, "two.json")
    town.told("sign", "--repo", town.repo, "--import", second)
    assert town.publish()["rotated"] == [role]
    for state in ("car", "new-car"):
        assert town.has(state) == ["model/drive-1.0.json"]
    # The new key counts from now on, the lost one doesn't.
    town.told("rotate", role, "--repo", town.repo)
    draft, digest = town.sent(role)
    lost_copy = town.person("finder", f"{role}-3")
    assert "can't sign" in town.refused(
        "sign", "--draft", draft, "--keys", lost_copy, "--key", f"{role}-3", "--digest", digest
    )
    for person, key, name in ((new, "carl", "a.json"), (people[1], f"{role}-1", "b.json")):
        town.told("sign", "--repo", town.repo, "--import", town.signed_by(person, key, draft, digest, name))
    assert town.publish()["rotated"] == [role]
    assert town.has("car") == ["model/drive-1.0.json"]


@pytest.mark.parametrize(
    "role",
    [
        "image-targets",
        "image-timestamp",
        "director-timestamp",
        *(pytest.param(role, marks=pytest.mark.soak) for role in ("image-snapshot", "director-targets")),
    ],
)
def test_a_stolen_online_key_is_replaced_and_vehicles_refuse_it_from_then_on(town: Town, role: str) -> None:
    town.release("1.0", 1, town.person("m", "model"))
    assert town.has("car") == ["model/drive-1.0.json"]
    old = town.folder / "stolen"
    shutil.copytree(town.online, old)
    safe = town.person("safe", *(f"{role.partition('-')[0]}-root-{n}" for n in (1, 2)))
    fresh = town.folder / "fresh"
    town.told("keygen", "--keys", fresh, role, "--public")
    town.told(
        "rotate",
        role,
        "--repo",
        town.repo,
        "--remove",
        town.id_of(town.online, role)[:8],
        "--add",
        fresh / f"{role}.pub",
    )
    root = f"{role.partition('-')[0]}-root"
    assert town.told("sign", "--repo", town.repo, "--keys", safe, "--role", root)["is_signed"]
    # With the old key in the desk's folder nothing is published.
    town.refused("publish", "--repo", town.repo, "--keys", old)
    assert town.has("car") == ["model/drive-1.0.json"]
    shutil.copy(fresh / f"{role}.pem", town.online)
    if role == "image-targets":
        town.told("sign", "--repo", town.repo, "--keys", town.online, "--role", "targets")
    assert root in town.publish()["rotated"]
    for state in ("car", "new-car"):
        assert town.has(state) == ["model/drive-1.0.json"]
    if role == "image-targets":
        town.told("rotate", "model", "--repo", town.repo)
        assert "can't sign targets" in town.refused("sign", "--repo", town.repo, "--keys", old, "--role", "targets")
    else:
        assert "isn't the one" in town.refused("publish", "--repo", town.repo, "--keys", old)
    assert town.told("verify", "--repo", town.repo, "--vehicle", CAR, "--hardware", "x86_64")["ok"]


@pytest.mark.parametrize("threshold", [(1, "old"), (1, "new")])
def test_a_root_needs_the_keys_before_and_its_own(town: Town, threshold: tuple[int, str]) -> None:
    """Two of the old and two of the new: one that has all of one side and too few of the other isn't published."""
    news = [town.person(f"new{n}") for n in (1, 2, 3)]
    ids = [town.id_of(town.folder / "keys", f"image-root-{n}")[:16] for n in (1, 2, 3)]
    words = [word for key_id in ids for word in ("--remove", key_id)]
    words += [str(word) for n, new in enumerate(news, 1) for word in ("--add", new / f"new{n}.pub")]
    town.told("rotate", "image-root", "--repo", town.repo, *words)
    old = town.person("old", "image-root-1", "image-root-2")
    for folder, keys in (
        [(old, ["image-root-1", "image-root-2"]), (news[0], ["new1"])]
        if threshold[1] == "old"
        else [(news[0], ["new1"]), (news[1], ["new2"]), (old, ["image-root-1"])]
    ):
        for key in keys:
            town.told("sign", "--repo", town.repo, "--keys", folder, "--role", "image-root", "--key", key)
    assert town.publish()["rotated"] == []
    last = (news[1], "new2") if threshold[1] == "old" else (old, "image-root-2")
    town.told("sign", "--repo", town.repo, "--keys", last[0], "--role", "image-root", "--key", last[1])
    assert town.publish()["rotated"] == ["image-root"]


def test_a_signature_over_anything_but_what_was_shown_is_refused(town: Town) -> None:
    model = town.person("m", "model")
    folder = town.folder / "in"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"one")
    add: list[str | Path] = ["--repo", town.repo, "--kind", "model", "--name", "drive", "--version"]
    town.told("add", folder, *add, "1.0", "--release", "1")
    draft, digest = town.sent("model")
    # Another draft than the one whose digest was told.
    (folder / "a.bin").write_bytes(b"two")
    town.told("add", folder, *add, "1.1", "--release", "2")
    other, _ = town.sent("model", "other.json")
    sign: list[str | Path] = ["--keys", model, "--key", "model", "--digest", digest]
    assert "Sign what you were shown" in town.refused("sign", "--draft", other, *sign)
    assert "Look at the draft first" in town.refused("sign", "--draft", other, "--keys", model, "--key", "model")
    # Signed as it was shown, and by then the desk holds another.
    back = town.signed_by(model, "model", draft, digest, "back.json")
    assert "isn't what waits here" in town.refused("sign", "--repo", town.repo, "--import", back)
    # A signature that was moved over from it.
    other_content = json.loads(other.read_text())
    other_content["draft"]["signatures"] = json.loads(back.read_text())["draft"]["signatures"]
    other.write_text(json.dumps(other_content))
    assert "isn't one over this draft" in town.refused("sign", "--repo", town.repo, "--import", other)
    assert "0 of 1 signatures" in town.refused("publish", "--repo", town.repo, "--keys", town.online)


@pytest.mark.parametrize(
    "damage", ["", "{}", "[]", "not json", '{"outrider-draft": 1}', '{"outrider-draft": 1, "role": "x"}']
)
def test_a_file_that_is_no_draft_is_refused_in_one_paragraph(town: Town, damage: str) -> None:
    path = town.folder / "x.json"
    path.write_text(damage)
    assert "is no draft" in town.refused("sign", "--draft", path)


def test_a_manifest_that_isnt_the_drafts_is_refused_before_anything_is_shown(
    town: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = town.folder / "in"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"one")
    town.told(
        "add", folder, "--repo", town.repo, "--kind", "model", "--name", "d", "--version", "1.0", "--release", "1"
    )
    draft, _ = town.sent("model")
    content = json.loads(draft.read_text())
    content["manifests"] = {name: text.replace("a.bin", "b.bin") for name, text in content["manifests"].items()}
    draft.write_text(json.dumps(content))
    with pytest.raises(RepositoryFault, match="without the manifest"):
        run(["ota", "sign", "--draft", str(draft)])


def test_a_strangers_signature_is_taken_from_no_draft(town: Town) -> None:
    stranger = town.person("stranger")
    folder = town.folder / "in"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"one")
    add = ["--kind", "model", "--name", "drive", "--version", "1.0", "--release", "1"]
    town.told("add", folder, "--repo", town.repo, *add)
    draft, digest = town.sent("model")
    assert "can't sign model" in town.refused(
        "sign", "--draft", draft, "--keys", stranger, "--key", "stranger", "--digest", digest
    )
    content = json.loads(draft.read_text())
    metadata = Metadata[Targets].from_dict(content["draft"])
    metadata.sign(KeyFolder(stranger).signer("stranger"))
    content["draft"] = metadata.to_dict()
    draft.write_text(json.dumps(content))
    assert "can't sign model" in town.refused("sign", "--repo", town.repo, "--import", draft)


def test_other_keys_for_a_kind_arent_published_without_what_they_have_to_sign(town: Town) -> None:
    anna = town.person("anna")
    old = town.id_of(town.folder / "keys", "model")
    town.told("rotate", "model", "--repo", town.repo, "--remove", old, "--add", anna / "anna.pub")
    town.told("sign", "--repo", town.repo, "--keys", town.online, "--role", "targets")
    (town.repo / "drafts/model.json").unlink()
    assert "isn't signed by them" in town.refused("publish", "--repo", town.repo, "--keys", town.online)


def test_a_release_cant_be_hidden_from_whoever_signs_by_saying_that_it_is_published(town: Town) -> None:
    town.release("1.0", 1, town.person("m", "model"))
    folder = town.folder / "in"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"two")
    add = ["--kind", "model", "--name", "drive", "--version", "2.0", "--release", "2"]
    town.told("add", folder, "--repo", town.repo, *add)
    draft, _ = town.sent("model")
    changes = town.told("sign", "--draft", draft)["draft"]["changes"]
    assert [its["target"] for its in changes] == ["model/drive-2.0.json"]
    content = json.loads(draft.read_text())
    content["before"]["signed"]["targets"] = content["draft"]["signed"]["targets"]
    draft.write_text(json.dumps(content))
    assert "could hide a release" in town.refused("sign", "--draft", draft)


def test_whoever_signs_with_a_new_key_is_shown_all_that_the_old_ones_had_signed(town: Town) -> None:
    town.release("1.0", 1, town.person("m", "model"))
    anna = town.person("anna")
    old = town.id_of(town.folder / "keys", "model")
    town.told("rotate", "model", "--repo", town.repo, "--remove", old, "--add", anna / "anna.pub")
    draft, _ = town.sent("model")
    changes = town.told("sign", "--draft", draft)["draft"]["changes"]
    assert [its["target"] for its in changes] == ["model/drive-1.0.json"]


def test_a_key_that_signs_something_already_is_taken_for_nothing_else(town: Town) -> None:
    town.told("keygen", "--keys", town.folder / "keys", "model", "--public")
    assert "model's already" in town.refused(
        "rotate", "image-root", "--repo", town.repo, "--add", town.folder / "keys/model.pub"
    )


def test_a_role_keeps_as_many_keys_as_have_to_sign(town: Town) -> None:
    ids = [town.id_of(town.folder / "keys", f"image-root-{n}")[:16] for n in (1, 2)]
    assert "2 signatures by 1 keys" in town.refused(
        "rotate", "image-root", "--repo", town.repo, "--remove", ids[0], "--remove", ids[1]
    )
    assert "0 signatures" in town.refused("rotate", "model", "--repo", town.repo, "--threshold", "0")
    assert "none of its keys" in town.refused("rotate", "model", "--repo", town.repo, "--remove", "00000000")
    assert "has no keys" in town.refused("rotate", "modle", "--repo", town.repo)
