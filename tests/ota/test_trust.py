"""Whom an update is believed from: each attack is refused by its name, with its numbers, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskError, DiskFault, DiskFull, RealDisk
from ota.errors import Attack, FetchError, NotThere, TrustError
from ota.floors import Floors, FloorsLost
from ota.kinds import Kind
from ota.layout import VEHICLE_FIELD
from ota.manifest import encode_manifest
from ota.repository import KeyFolder
from ota.source import FolderSource, Source
from ota.trust import ClockUntrusted, Trust, Vehicle
from tests.ota.changed import Change, Changed, Open
from tests.ota.fleet import CAR, HARDWARE, NOW_NS, Fleet


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(trust: Trust, source: Source, attack: Attack, words: str | None = None) -> str:
    """Refused as that attack, twice: the first time taught it nothing."""
    for _ in range(2):
        with pytest.raises(TrustError, match=words) as refusal:
            trust.refresh(source)
        assert refusal.value.attack is attack, refusal.value
    return str(refusal.value)


def edited(path_part: str, edit: Callable[[dict[str, object]], None]) -> Change:
    """The signed part of a file changed after it was signed."""

    def change(path: str, data: bytes) -> bytes:
        if path_part not in path:
            return data
        content = json.loads(data)
        edit(content["signed"])
        return json.dumps(content).encode()

    return change


# --- what is right is offered -----------------------------------------------------------------------


def test_what_both_repositories_name_for_this_vehicle_is_offered(fleet: Fleet, state: Path) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.assign(manifest)
    (offer,) = fleet.trust(state).refresh(fleet.source())
    assert (offer.kind, offer.target, offer.release) == (Kind.MODEL, "model/drive-1.0.json", 1)
    assert offer.length == len(encode_manifest(manifest))


def test_a_vehicle_that_is_to_have_nothing_is_offered_nothing(fleet: Fleet, state: Path) -> None:
    fleet.release("1.0", 1)
    fleet.assign()
    assert fleet.trust(state).refresh(fleet.source()) == ()


def test_a_release_for_any_hardware_is_for_this_one(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1, hardware=("any",)))
    assert len(fleet.trust(state).refresh(fleet.source())) == 1


def test_nothing_new_costs_one_file_of_each_repository_and_the_look_for_a_newer_root(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    trust, source = fleet.trust(state), Changed(fleet.source())
    trust.refresh(source)
    before = contents(state)
    source.asked.clear()
    assert len(trust.refresh(source)) == 1
    assert sorted(path for path, _, _ in source.asked) == [
        "director/2.root.json", "director/timestamp.json", "image/2.root.json", "image/timestamp.json",
    ]  # fmt: skip
    assert contents(state) == before


def test_without_its_cache_a_vehicle_fetches_everything_again(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    trust = fleet.trust(state)
    offers = trust.refresh(fleet.source())
    (state / "metadata.cache").write_bytes(b"\xff torn")
    assert trust.refresh(fleet.source()) == offers


def test_any_flipped_bit_in_the_cache_costs_a_fetch_and_nothing_else(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    trust = fleet.trust(state)
    offers = trust.refresh(fleet.source())
    cache = state / "metadata.cache"
    whole = cache.read_bytes()
    in_names = [at + 3 for at in range(len(whole)) if whole.startswith((b"director/", b"image/"), at)]
    for at in (*in_names, *range(0, len(whole), 400)):
        for bit in (0, 7):
            cache.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            assert trust.refresh(fleet.source()) == offers


def test_a_cache_full_of_nonsense_costs_a_fetch_and_nothing_else(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    trust = fleet.trust(state)
    offers = trust.refresh(fleet.source())
    cache = state / "metadata.cache"
    whole = cache.read_bytes()
    # Zeros, or a way out of the folder, where a name was.
    for at in (at for at in range(len(whole)) if whole.startswith((b"director/", b"image/"), at)):
        for nonsense in (bytes(6), b"../../"):
            cache.write_bytes(whole[:at] + nonsense + whole[at + 6 :])
            assert trust.refresh(fleet.source()) == offers


def test_on_a_full_disk_a_look_is_taken_and_its_floors_rise(fleet: Fleet) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.assign(manifest)
    disk = CrashDisk()
    trust = Trust(disk, fleet.roots, Vehicle(CAR, HARDWARE), Floors(disk), fleet.clock)
    offers = trust.refresh(fleet.source())
    fleet.pass_days(1)
    fleet.assign(manifest)
    disk.fail(lambda call: call.act == "create", DiskFull("no space"))
    assert trust.refresh(fleet.source()) == offers
    assert Floors(disk).signed_at_s == fleet.clock.wall_ns() // 10**9


def test_a_cache_that_the_medium_cant_give_back_is_written_anew(fleet: Fleet) -> None:
    fleet.assign(fleet.release("1.0", 1))
    disk = CrashDisk()
    trust = Trust(disk, fleet.roots, Vehicle(CAR, HARDWARE), Floors(disk), fleet.clock)
    offers = trust.refresh(fleet.source())
    disk.fail(lambda call: call.act == "read" and call.path == "metadata.cache", DiskFault("bad sector"))
    assert trust.refresh(fleet.source()) == offers


def test_a_root_signed_by_the_old_and_the_new_keys_is_followed(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    trust = fleet.trust(state)
    trust.refresh(fleet.source())
    path = fleet.repo / "director/metadata/1.root.json"
    root = Metadata[Root].from_file(str(path))
    root.signed.version = 2
    root.signatures.clear()
    for name in ("director-root-1", "director-root-3"):
        root.sign(fleet.keys.signer(name), append=True)
    root.to_file(str(path.with_name("2.root.json")))
    assert len(trust.refresh(fleet.source())) == 1
    # The way back to the first root alone is a rollback now, also for whoever lost its cache.
    (state / "metadata.cache").unlink()
    hidden = Changed(fleet.source(), lambda path, data: data)

    class WithoutTheNewRoot(Open):
        def read(self, path: str, offset: int, most: int):  # type: ignore[no-untyped-def]
            if path == "director/2.root.json":
                raise NotThere("hidden")
            yield from hidden.read(path, offset, most)

    refused(trust, WithoutTheNewRoot(), Attack.ROLLBACK, "offered director/root version 1, seen 2")


# --- attacks ----------------------------------------------------------------------------------------


def test_another_vehicles_metadata_is_refused_though_the_same_keys_signed_it(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1), vehicle="car-2")
    words = refused(fleet.trust(state), fleet.source("car-2"), Attack.WRONG_VEHICLE)
    assert words == "wrong-vehicle: the director's targets are for car-2, this is car-1"
    assert contents(state) == {}


def test_metadata_that_names_no_vehicle_is_refused(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    path = fleet.repo / f"director/vehicles/{CAR}/1.targets.json"
    targets = Metadata[Targets].from_file(str(path))
    del targets.signed.unrecognized_fields[VEHICLE_FIELD]
    targets.sign(fleet.keys.signer("director-targets"))
    targets.to_file(str(path))
    refused(fleet.trust(state), fleet.source(), Attack.WRONG_VEHICLE, "for None")


@pytest.mark.parametrize("role", ["director/timestamp", "director/1.snapshot", "director/1.targets", "image/1.targets",
                                  "image/timestamp", "image/2.model"])  # fmt: skip
def test_one_changed_value_in_any_role_is_refused_as_tampered(fleet: Fleet, state: Path, role: str) -> None:
    fleet.assign(fleet.release("1.0", 1))
    source = Changed(fleet.source(), edited(role, lambda signed: signed.update(expires="2099-01-01T00:00:00Z")))
    refused(fleet.trust(state), source, Attack.TAMPERED, role)
    assert contents(state) == {}


def test_a_strangers_signature_is_refused(fleet: Fleet, state: Path, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    stranger = KeyFolder(tmp_path / "stranger")
    stranger.generate()
    path = fleet.repo / f"director/vehicles/{CAR}/timestamp.json"
    timestamp = Metadata[Timestamp].from_file(str(path))
    timestamp.sign(stranger.signer("director-timestamp"))
    timestamp.to_file(str(path))
    words = refused(fleet.trust(state), fleet.source(), Attack.WRONG_SIGNER)
    assert words == "wrong-signer: director/timestamp.json is signed by a stranger, not by timestamp"


def test_a_key_of_one_kind_signs_no_other(fleet: Fleet, state: Path) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.assign(manifest)
    path = fleet.repo / "image/metadata/2.model.json"
    model = Metadata[Targets].from_file(str(path))
    model.signatures.clear()
    model.sign(fleet.keys.signer("campaign"))
    model.to_file(str(path))
    words = refused(fleet.trust(state), fleet.source(), Attack.WRONG_SIGNER)
    assert words == "wrong-signer: image/2.model.json is signed by the campaign key, not by model"


def published_by_hand(fleet: Fleet, role: str, targets: Metadata[Targets]) -> None:
    """What the desk would refuse to publish, under the right snapshot and timestamp."""
    folder = fleet.repo / "image/metadata"
    targets.to_file(str(folder / f"{targets.signed.version}.{role}.json"))
    timestamp = Metadata[Timestamp].from_file(str(folder / "timestamp.json"))
    version = timestamp.signed.snapshot_meta.version
    snapshot = Metadata[Snapshot].from_file(str(folder / f"{version}.snapshot.json"))
    snapshot.signed.version = timestamp.signed.version = timestamp.signed.snapshot_meta.version = version + 1
    snapshot.signed.meta[f"{role}.json"].version = targets.signed.version
    snapshot.sign(fleet.keys.signer("image-snapshot"))
    timestamp.sign(fleet.keys.signer("image-timestamp"))
    snapshot.to_file(str(folder / f"{version + 1}.snapshot.json"))
    timestamp.to_file(str(folder / "timestamp.json"))


def test_a_kinds_role_is_trusted_for_its_own_paths_alone(fleet: Fleet, state: Path) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.assign(manifest)
    model = fleet.images.target(manifest.target)
    # The campaign's owner lists a model under its own role, and the director is in on it.
    campaign = Metadata[Targets].from_file(str(fleet.repo / "image/metadata/1.campaign.json"))
    forged = type(model).from_dict(model.to_dict(), "model/forged-1.0.json")
    campaign.signed.version = 2
    campaign.signed.targets[forged.path] = forged
    campaign.sign(fleet.keys.signer("campaign"))
    published_by_hand(fleet, "campaign", campaign)
    fleet.director.assign(CAR, [forged], fleet.keys)
    words = refused(fleet.trust(state), fleet.source(), Attack.ARBITRARY_SOFTWARE)
    assert words == "arbitrary-software: the director names model/forged-1.0.json, which no model key has signed"


def test_a_director_alone_can_change_no_byte(fleet: Fleet, state: Path) -> None:
    target = fleet.images.target(fleet.release("1.0", 1).target)
    other = type(target).from_data(target.path, b"other", ["sha256"])
    other.unrecognized_fields = target.unrecognized_fields
    fleet.director.assign(CAR, [other], fleet.keys)
    refused(fleet.trust(state), fleet.source(), Attack.ARBITRARY_SOFTWARE, "disagree about model/drive-1.0.json")


def test_a_director_alone_can_change_no_byte_of_the_same_length(fleet: Fleet, state: Path) -> None:
    target = fleet.images.target(fleet.release("1.0", 1).target)
    target.hashes["sha256"] = "0" * 64
    fleet.director.assign(CAR, [target], fleet.keys)
    refused(fleet.trust(state), fleet.source(), Attack.ARBITRARY_SOFTWARE, "disagree about")


def directed_by_hand(fleet: Fleet, edit: Callable[[Targets], None]) -> None:
    path = fleet.repo / f"director/vehicles/{CAR}/1.targets.json"
    targets = Metadata[Targets].from_file(str(path))
    edit(targets.signed)
    targets.sign(fleet.keys.signer("director-targets"))
    targets.to_file(str(path))


def test_a_director_that_delegates_is_refused(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    images = Metadata[Targets].from_file(str(fleet.repo / "image/metadata/1.targets.json"))
    directed_by_hand(fleet, lambda signed: setattr(signed, "delegations", images.signed.delegations))
    refused(fleet.trust(state), fleet.source(), Attack.MALFORMED, "which a director's never do")


def test_a_kind_that_nobody_knows_is_refused(fleet: Fleet, state: Path) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.assign(manifest)
    known = fleet.images.target(manifest.target)
    other = type(known).from_dict(known.to_dict(), "firmware/drive-1.0.json")
    directed_by_hand(fleet, lambda signed: signed.targets.update({other.path: other}))
    refused(fleet.trust(state), fleet.source(), Attack.MALFORMED, "of no kind that is known here")


def test_a_director_cant_raise_a_release_counter(fleet: Fleet, state: Path) -> None:
    target = fleet.images.target(fleet.release("1.0", 1).target)
    target.unrecognized_fields["custom"]["release"] = 9
    fleet.director.assign(CAR, [target], fleet.keys)
    refused(fleet.trust(state), fleet.source(), Attack.ARBITRARY_SOFTWARE)


def test_a_release_for_other_hardware_is_refused(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1, hardware=("aarch64", "armv7l")))
    words = refused(fleet.trust(state), fleet.source(), Attack.WRONG_HARDWARE)
    assert words == f"wrong-hardware: model/drive-1.0.json is for aarch64, armv7l, this is {HARDWARE}"


def test_two_releases_of_one_kind_are_refused(fleet: Fleet, state: Path) -> None:
    fleet.assign(first := fleet.release("1.0", 1))
    second = fleet.images.target(fleet.release("2.0", 2).target)
    assert first.target != second.path
    directed_by_hand(fleet, lambda signed: signed.targets.update({second.path: second}))
    refused(fleet.trust(state), fleet.source(), Attack.MALFORMED, "two releases of one kind")


def test_expired_metadata_is_refused_as_a_freeze(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    fleet.pass_days(8)
    words = refused(fleet.trust(state), fleet.source(), Attack.FREEZE)
    assert words == "freeze: director/timestamp expired on 2027-01-22T08:00:00Z, today is 2027-01-23T08:00:00Z"


def test_a_kind_whose_signature_ran_out_is_named(fleet: Fleet, state: Path) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.pass_days(91)
    fleet.publish()
    fleet.assign(manifest)
    words = refused(fleet.trust(state), fleet.source(), Attack.FREEZE)
    assert words == "freeze: image/model expired on 2027-04-15T08:00:00Z, today is 2027-04-16T08:00:00Z"


def test_time_is_the_clocks_and_not_the_computers(fleet: Fleet, state: Path) -> None:
    assert datetime.fromtimestamp(NOW_NS // 10**9, UTC).year == 2027
    fleet.assign(fleet.release("1.0", 1))
    early, late = SteppingClock(wall_ns=NOW_NS), SteppingClock(wall_ns=NOW_NS + 10**9 * 86_400 * 30)
    assert fleet.trust(state / "a", early).refresh(fleet.source())
    refused(fleet.trust(state / "b", late), fleet.source(), Attack.FREEZE)


@pytest.mark.parametrize("cache", ["kept", "lost", "emptied"])
def test_older_metadata_is_a_rollback_whatever_became_of_the_cache(fleet: Fleet, state: Path, cache: str) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.assign(manifest)
    folder = fleet.repo / f"director/vehicles/{CAR}"
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    fleet.assign(manifest)
    fleet.assign(manifest)
    trust = fleet.trust(state)
    trust.refresh(fleet.source())
    if cache == "lost":
        (state / "metadata.cache").unlink()
    if cache == "emptied":
        (state / "metadata.cache").write_bytes(b"")
    (folder / "timestamp.json").write_bytes(old["timestamp.json"])
    before = contents(state)
    refused(trust, fleet.source(), Attack.ROLLBACK, "version 1, seen 3")
    assert contents(state) == before


def test_older_images_are_a_rollback_though_the_cache_is_lost_and_the_director_is_in_on_it(
    fleet: Fleet, state: Path
) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.assign(manifest)
    old = (fleet.repo / "image/metadata/timestamp.json").read_bytes()
    fleet.release("2.0", 2)
    trust = fleet.trust(state)
    trust.refresh(fleet.source())
    (state / "metadata.cache").unlink()
    (fleet.repo / "image/metadata/timestamp.json").write_bytes(old)
    refused(trust, fleet.source(), Attack.ROLLBACK, r"offered image/timestamp version \d, seen \d")


def test_a_look_that_finds_nothing_new_writes_nothing(fleet: Fleet) -> None:
    fleet.assign(fleet.release("1.0", 1))
    disk = CrashDisk()
    trust = Trust(disk, fleet.roots, Vehicle(CAR, HARDWARE), Floors(disk), fleet.clock)
    trust.refresh(fleet.source())
    calls = len(disk.calls)
    trust.refresh(fleet.source())
    assert {call.act for call in disk.calls[calls:]} <= {"read", "size"}


def test_a_snapshot_of_another_state_is_mixed_and_matched(fleet: Fleet, state: Path) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.assign(manifest)
    fleet.assign(manifest)
    folder = fleet.repo / f"director/vehicles/{CAR}"
    first = (folder / "1.snapshot.json").read_bytes()
    source = Changed(fleet.source(), lambda path, data: first if path == "director/2.snapshot.json" else data)
    refused(fleet.trust(state), source, Attack.MIX_AND_MATCH)


def test_metadata_without_end_is_left_at_its_limit(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    taken = 0

    class Endless(Open):
        def read(self, path: str, offset: int, most: int):  # type: ignore[no-untyped-def]
            nonlocal taken
            if path != "director/timestamp.json":
                yield from fleet.source().read(path, offset, most)
                return
            while True:
                taken += 65_536
                yield bytes(65_536)

    refused(fleet.trust(state), Endless(), Attack.ENDLESS_DATA, "director/timestamp.json")
    assert taken == 2 * 65_536, "one part, in each of two looks"


@pytest.mark.parametrize("data", [b"", b"{}", b"[1, 2", b'{"signed": {"_type": "timestamp"}}', bytes(100)])
def test_what_isnt_metadata_is_refused_as_malformed(fleet: Fleet, state: Path, data: bytes) -> None:
    fleet.assign(fleet.release("1.0", 1))
    source = Changed(fleet.source(), lambda path, was: data if path == "director/timestamp.json" else was)
    refused(fleet.trust(state), source, Attack.MALFORMED, "director/timestamp.json")


def test_a_name_said_twice_at_the_end_of_megabytes_is_found_in_one_pass(fleet: Fleet, state: Path) -> None:
    """Over unsigned bytes: in two passes for each name it would take the better part of an hour."""
    fleet.assign(fleet.release("1.0", 1))
    names = ",".join(f'"{number}":0' for number in (*range(350_000), 349_999))

    def full(path: str, data: bytes) -> bytes:
        return data.rstrip().removesuffix(b"}") + f',"junk":{{{names}}}}}'.encode() if "1.targets" in path else data

    refused(fleet.trust(state), Changed(fleet.source(), full), Attack.MALFORMED, "says '349999' twice")


@pytest.mark.parametrize("junk", ["NaN", "1e999", '"\\ud800"', "[" * 500 + "]" * 500, "1" * 4000])
@pytest.mark.parametrize("role", ["director/timestamp", "director/1.snapshot", "image/1.targets", "image/2.model"])
def test_what_stands_beside_the_signed_part_changes_nothing_that_is_believed(
    fleet: Fleet, state: Path, role: str, junk: str
) -> None:
    fleet.assign(fleet.release("1.0", 1))

    def beside(path: str, data: bytes) -> bytes:
        return data.rstrip().removesuffix(b"}") + f', "comment": {junk}}}'.encode() if role in path else data

    trust = fleet.trust(state)
    offers = trust.refresh(Changed(fleet.source(), beside))
    assert offers == fleet.trust(state / "other").refresh(fleet.source())
    assert trust.refresh(fleet.source()) == offers


def test_words_about_what_was_refused_are_short_and_printable_however_much_is_offered(
    fleet: Fleet, state: Path
) -> None:
    target = fleet.images.target(fleet.release("1.0", 1).target)
    forged = type(target).from_dict(target.to_dict(), "model/\x1b[2J" + "x" * 100_000)
    fleet.director.assign(CAR, [forged], fleet.keys)
    words = refused(fleet.trust(state), fleet.source(), Attack.ARBITRARY_SOFTWARE)
    assert words.isprintable()
    assert len(words) <= 400


@pytest.mark.parametrize("version", [10**4000, (1 << 53) + 1, True])
def test_a_version_that_no_floor_can_hold_is_refused(fleet: Fleet, state: Path, version: int) -> None:
    fleet.assign(fleet.release("1.0", 1))
    path = fleet.repo / f"director/vehicles/{CAR}/timestamp.json"
    timestamp = Metadata[Timestamp].from_file(str(path))
    timestamp.signed.version = version
    timestamp.sign(fleet.keys.signer("director-timestamp"))
    timestamp.to_file(str(path))
    refused(fleet.trust(state), fleet.source(), Attack.MALFORMED, "the version of director/timestamp is no number")
    assert contents(state) == {}


@pytest.mark.parametrize("custom", [None, {}, {"release": "1", "hardware": ["any"]}, {"release": 1, "hardware": "any"}])
def test_a_release_that_doesnt_say_what_it_is_for_is_refused(fleet: Fleet, state: Path, custom: object) -> None:
    manifest = fleet.release("1.0", 1)
    path = fleet.repo / "image/metadata/2.model.json"
    model = Metadata[Targets].from_file(str(path))
    model.signed.targets[manifest.target].unrecognized_fields = {"custom": custom} if custom is not None else {}
    model.sign(fleet.keys.signer("model"))
    model.to_file(str(path))
    fleet.assign(manifest)
    refused(fleet.trust(state), fleet.source(), Attack.MALFORMED, "says no release and hardware")


@pytest.mark.parametrize(
    ("path", "hashes"),
    [
        ("model/drive-\u00e9.json", {"sha256": "0" * 64}),
        ("model/drive 1.0.json", {"sha256": "0" * 64}),
        ("model/drive-1.0.json", {"sha256": "0" * 63 + "\n"}),
        ("model/drive-1.0.json", {"sha256": "/../" + "0" * 60}),
        ("model/drive-1.0.json", {"sha512": "0" * 128}),
    ],
)
def test_a_name_that_nobody_can_ask_for_is_refused_though_both_have_signed_it(
    fleet: Fleet, state: Path, path: str, hashes: dict[str, str]
) -> None:
    known = fleet.images.target(fleet.release("1.0", 1).target)
    target = type(known).from_dict({**known.to_dict(), "hashes": hashes}, path)
    model = Metadata[Targets].from_file(str(fleet.repo / "image/metadata/2.model.json"))
    model.signed.targets = {path: target}
    model.signed.version = 3
    model.sign(fleet.keys.signer("model"))
    published_by_hand(fleet, "model", model)
    fleet.director.assign(CAR, [target], fleet.keys)
    refused(fleet.trust(state), fleet.source(), Attack.MALFORMED, "nobody can ask for")


# --- clocks, floors and links -----------------------------------------------------------------------


def test_a_kind_begins_anew_with_other_keys_though_an_earlier_look_kept_it_by_the_old_ones(
    fleet: Fleet, state: Path
) -> None:
    manifest = fleet.release("1.0", 1)
    target = fleet.images.target(manifest.target)
    fleet.assign(manifest)
    trust = fleet.trust(state)
    trust.refresh(fleet.source())
    # The owners give the kind to another key, and for now vehicles are to have nothing.
    targets = Metadata[Targets].from_file(str(fleet.repo / "image/metadata/1.targets.json"))
    assert targets.signed.delegations is not None
    targets.signed.revoke_key(fleet.keys.signer("model").public_key.keyid, "model")
    targets.signed.add_key(fleet.keys.signer("runtime").public_key, "model")
    targets.signed.version = 2
    targets.sign(fleet.keys.signer("image-targets"))
    published_by_hand(fleet, "targets", targets)
    fleet.assign()
    assert trust.refresh(fleet.source()) == ()
    # Then the new key signs, from the first version on.
    model = Metadata[Targets].from_file(str(fleet.repo / "image/metadata/1.model.json"))
    model.signed.targets[target.path] = target
    model.signatures.clear()
    model.sign(fleet.keys.signer("runtime"))
    published_by_hand(fleet, "model", model)
    fleet.director.assign(CAR, [target], fleet.keys)
    (state / "metadata.cache").unlink()
    assert [offer.release for offer in trust.refresh(fleet.source())] == [1]


def test_a_clock_before_what_was_signed_is_not_believed(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    trust = fleet.trust(state)
    trust.refresh(fleet.source())
    fleet.pass_days(-0.5)
    with pytest.raises(ClockUntrusted, match="wait until the time is known"):
        trust.refresh(fleet.source())


def test_whoever_signs_with_a_clock_of_the_future_lifts_no_floor_into_it(fleet: Fleet, state: Path) -> None:
    manifest = fleet.release("1.0", 1)
    fleet.pass_days(3)
    fleet.assign(manifest)
    fleet.pass_days(-3)
    trust = fleet.trust(state)
    assert trust.refresh(fleet.source())
    assert trust.refresh(fleet.source())


@pytest.mark.parametrize("stamp", ["yesterday", None, -5, True, [1 << 40]])
def test_a_timestamp_that_says_nonsense_of_its_time_lifts_no_floor(fleet: Fleet, state: Path, stamp: object) -> None:
    fleet.assign(fleet.release("1.0", 1))
    for path in ("image/metadata/timestamp.json", f"director/vehicles/{CAR}/timestamp.json"):
        timestamp = Metadata[Timestamp].from_file(str(fleet.repo / path))
        timestamp.signed.unrecognized_fields["x-outrider-signed-at"] = stamp
        timestamp.sign(fleet.keys.signer(f"{path.partition('/')[0]}-timestamp"))
        timestamp.to_file(str(fleet.repo / path))
    assert fleet.trust(state).refresh(fleet.source())
    assert Floors(RealDisk(state)).signed_at_s <= 1


def test_lost_floors_refuse_every_update(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    fleet.trust(state).refresh(fleet.source())
    for twin in ("floors.metadata.0", "floors.metadata.1"):
        (state / twin).write_bytes(bytes(100))
    with pytest.raises(FloorsLost, match="provisioned anew"):
        fleet.trust(state).refresh(fleet.source())


def test_one_flipped_bit_lowers_no_floor(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    fleet.trust(state).refresh(fleet.source())
    for twin in ("floors.metadata.0", "floors.metadata.1"):
        whole = (state / twin).read_bytes()
        for byte in (0, 9, 30, 60):
            (state / twin).write_bytes(whole[:byte] + bytes([whole[byte] ^ 4]) + whole[byte + 1 :])
            assert Floors(RealDisk(state)).signed_at_s == NOW_NS // 10**9
        (state / twin).write_bytes(whole)


@pytest.mark.parametrize("makes", ["file", "nothing"])
def test_a_temporary_folder_that_cant_be_used_is_the_disks_matter(
    fleet: Fleet, state: Path, tmp_path: Path, makes: str
) -> None:
    fleet.assign(fleet.release("1.0", 1))
    if makes == "file":
        (tmp_path / "tmp").touch()
    with pytest.raises(DiskError, match=r"temporary folder: (Not a directory|No such file)"):
        fleet.trust(state, scratch=tmp_path / "tmp").refresh(fleet.source())
    assert contents(state) == {}


def test_of_a_look_nothing_stays_in_the_temporary_folder(fleet: Fleet, state: Path, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    seen: list[int] = []

    def watched(path: str, data: bytes) -> bytes:
        seen.append(len(list(scratch.iterdir())))
        return data

    trust = fleet.trust(state, scratch=scratch)
    assert trust.refresh(Changed(fleet.source(), watched))
    refused(trust, Changed(fleet.source(), lambda path, data: b""), Attack.MALFORMED)
    assert set(seen) == {1}
    assert list(scratch.iterdir()) == []


def test_a_source_that_is_away_is_no_attack(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))

    class Away(Open):
        def read(self, path: str, offset: int, most: int):  # type: ignore[no-untyped-def]
            if most:
                raise FetchError("The receiver can't be reached.")
            yield b""

    with pytest.raises(FetchError, match="can't be reached"):
        fleet.trust(state).refresh(Away())
    with pytest.raises(FetchError):
        fleet.trust(state).refresh(FolderSource(fleet.repo / "nothing", CAR))


def test_the_clock_of_a_timestamp_is_part_of_what_is_signed(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    timestamp = Metadata[Timestamp].from_file(str(fleet.repo / f"director/vehicles/{CAR}/timestamp.json"))
    assert timestamp.signed.unrecognized_fields["x-outrider-signed-at"] == NOW_NS // 10**9


def test_roots_of_another_fleet_refuse_everything(fleet: Fleet, state: Path, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    other = Fleet(tmp_path / "other")
    state.mkdir()
    disk = RealDisk(state)
    trust = Trust(disk, other.roots, Vehicle(CAR, HARDWARE), Floors(disk), fleet.clock)
    refused(trust, fleet.source(), Attack.WRONG_SIGNER)
