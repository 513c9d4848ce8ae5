"""Each signer only its own: every key against every role of both repositories, as a vehicle verifies them.

Only the diagonal is accepted. And each role by today's root: rotations, and the way back after a theft of keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root

from ecu.disk import RealDisk
from ota.errors import Attack, Flaw, TrustError
from ota.floors import Floors
from ota.kinds import Kind
from ota.repository.keys import ALL_KEYS
from ota.source import Source
from ota.trust import Trust
from tests.ota.changed import Changed
from tests.ota.fleet import CAR, Fleet
from tests.ota.rotated import Rotated

KINDS = [kind.value for kind in Kind]
ONLINE = [
    f"{repository}-{role}" for repository in ("image", "director") for role in ("targets", "snapshot", "timestamp")
]
FILES = {
    "image-targets": "image/1.targets.json",
    "image-timestamp": "image/timestamp.json",
    "director-targets": "director/1.targets.json",
    "director-snapshot": "director/1.snapshot.json",
    "director-timestamp": "director/timestamp.json",
}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A release of every kind, and a vehicle for each that is to have it."""
    fleet = Fleet(tmp_path_factory.mktemp("everything") / "fleet")
    for kind in Kind:
        fleet.assign(fleet.release("1.0", 1, kind=kind), vehicle=f"car-{kind}")
    fleet.assign(fleet.release("2.0", 2))
    return fleet


@pytest.fixture(scope="module")
def signers(everything: Fleet) -> dict[str, Signer]:
    return {name: everything.keys.signer(name) for name in ALL_KEYS}


def whole(source: Source, path: str) -> bytes:
    return b"".join(source.read(path, 0, 1 << 20))


def instead(source: Source, files: Mapping[str, bytes]) -> Source:
    return Changed(source, lambda at, data: files.get(at, data))


def signed_by(data: bytes, signer: Signer) -> bytes:
    metadata: Metadata[Root] = Metadata.from_bytes(data)
    metadata.signatures.clear()
    metadata.sign(signer)
    return metadata.to_bytes()


def refusal_of(trust: Trust, source: Source) -> TrustError | None:
    try:
        trust.refresh(source)
    except TrustError as refusal:
        return refusal
    return None


def accepted(trust: Trust, fleet: Fleet, vehicle: str, path: str, signers: dict[str, Signer]) -> list[str]:
    """The keys by which the file at `path` is accepted; by all others it is refused for its signer."""
    by: list[str] = []
    for name, signer in signers.items():
        source = instead(fleet.source(vehicle), {path: signed_by(whole(fleet.source(vehicle), path), signer)})
        if (refusal := refusal_of(trust, source)) is None:
            by.append(name)
        else:
            assert refusal.attack is Attack.WRONG_SIGNER, refusal
            assert refusal.flaw is Flaw.OTHER_KINDS_KEY or not {name, path.split(".")[-2]} <= set(KINDS)
    return by


def kinds_verdict(fleet: Fleet, state: Path, kind: str, signers: dict[str, Signer]) -> list[str]:
    path = f"image/{3 if kind == Kind.MODEL else 2}.{kind}.json"
    # Its own comes last: from then on the vehicle keeps the file, and asks nobody for it.
    last = {name: signers[name] for name in sorted(signers, key=lambda name: name == kind)}
    return accepted(fleet.trust(state, vehicle=f"car-{kind}"), fleet, f"car-{kind}", path, last)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_of_all_keys_a_kinds_own_alone_signs_it(
    everything: Fleet, signers: dict[str, Signer], tmp_path: Path, kind: str
) -> None:
    assert kinds_verdict(everything, tmp_path / "state", kind, signers) == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_neither_the_next_kinds_key_nor_the_targets_signs_a_kind(
    everything: Fleet, signers: dict[str, Signer], tmp_path: Path, kind: str
) -> None:
    few = (kind, KINDS[KINDS.index(kind) - 1], "image-targets")
    assert kinds_verdict(everything, tmp_path / "state", kind, {name: signers[name] for name in few}) == [kind]


@pytest.mark.soak
@pytest.mark.parametrize("role", FILES)
def test_of_all_keys_a_roles_own_alone_signs_it(
    everything: Fleet, signers: dict[str, Signer], tmp_path: Path, role: str
) -> None:
    last = {name: signers[name] for name in sorted(signers, key=lambda name: name == role)}
    assert accepted(everything.trust(tmp_path / "state"), everything, CAR, FILES[role], last) == [role]


def test_the_matrix_notices_a_kind_whose_delegation_names_anothers_key(tmp_path: Path) -> None:
    """The oracle of the tests before: with one key too many in a delegation, two are accepted."""
    fleet = Fleet(tmp_path / "fleet")
    fleet.assign(fleet.release("1.0", 1))
    targets = Metadata.from_file(str(fleet.repo / "image/metadata/1.targets.json"))
    targets.signed.add_key(fleet.keys.signer("campaign").public_key, "model")
    targets.sign(fleet.keys.signer("image-targets"))
    wrong = targets.to_bytes()
    by = {name: fleet.keys.signer(name) for name in ("campaign", "plan", "model")}
    refusals = {}
    for name, signer in by.items():
        files = {
            "image/1.targets.json": wrong,
            "image/2.model.json": signed_by(whole(fleet.source(), "image/2.model.json"), signer),
        }
        source = instead(fleet.source(), files)
        refusals[name] = refusal_of(fleet.trust(tmp_path / name), source)
    assert [name for name, refusal in refusals.items() if refusal is None] == ["campaign", "model"]


# --- roots of both repositories ---------------------------------------------------------------------


@pytest.mark.parametrize("repository", ["director", "image"])
def test_each_repository_goes_from_root_to_root_and_no_floor_sinks(fleet: Fleet, state: Path, repository: str) -> None:
    fleet.assign(fleet.release("1.0", 1))
    trust, rotated = fleet.trust(state), Rotated(fleet)
    offers = trust.refresh(rotated)
    # Keys that nobody uses otherwise here.
    for role, key in (("timestamp", "plan"), ("snapshot", "crops"), ("targets", "system")):
        before = Floors(RealDisk(state))._read().versions
        rotated.rotate(repository, role, key)
        assert trust.refresh(rotated) == offers
        after = Floors(RealDisk(state))._read().versions
        assert {role: max(version, after.get(role, 0)) for role, version in before.items()}.items() <= after.items()
    assert after[f"{repository}/root"] == 4
    # What the old keys signed is nobody's word any more.
    stamp = f"{repository}/timestamp.json"
    with pytest.raises(TrustError) as refusal:
        trust.refresh(instead(rotated, {stamp: whole(fleet.source(), stamp)}))
    assert refusal.value.attack is Attack.WRONG_SIGNER


@pytest.mark.parametrize("repository", ["director", "image"])
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_thief_who_ran_versions_far_ahead_is_undone_by_a_new_root_and_by_nothing_less(
    fleet: Fleet, state: Path, repository: str, role: str
) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.assign(manifest)
    trust, rotated = fleet.trust(state), Rotated(fleet)
    offers = trust.refresh(rotated)
    ahead = {
        "timestamp": ["timestamp"],
        "snapshot": ["timestamp", "snapshot"],
        "targets": ["timestamp", "snapshot", "targets"],
    }
    for its in ahead[role]:
        rotated.pretend(repository, its, 1_000_000)
    assert trust.refresh(rotated) == offers
    recovered = Rotated(fleet)
    with pytest.raises(TrustError) as refusal:
        trust.refresh(recovered)
    assert refusal.value.attack is Attack.ROLLBACK
    recovered.rotate(repository, "timestamp", "plan")
    assert trust.refresh(recovered) == offers
    # One that the stolen key signed says nothing any more.
    stamp = f"{repository}/timestamp.json"
    with pytest.raises(TrustError):
        trust.refresh(instead(recovered, {stamp: whole(fleet.source(), stamp)}))


def test_two_roots_of_three_must_agree_on_a_new_one(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    trust, rotated = fleet.trust(state), Rotated(fleet)
    rotated.rotate("director", "timestamp", "plan")

    def one_signature(path: str, data: bytes) -> bytes:
        return signed_by(data, fleet.keys.signer("director-root-1")) if path == "director/2.root.json" else data

    with pytest.raises(TrustError) as refusal:
        trust.refresh(Changed(rotated, one_signature))
    assert refusal.value.flaw is Flaw.TOO_FEW_SIGNERS
    assert len(trust.refresh(rotated)) == 1
