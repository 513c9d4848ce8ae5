"""A bundle's way into a slot: verified block by block, resumed at the first that isn't right, never half believed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFull, RealDisk
from ota.errors import Attack, FetchError, NoRoomForUpdate, NotThere, TrustError
from ota.fetch import Progress, fetch_bundle, fetch_manifest
from ota.kinds import Kind
from ota.layout import published
from ota.manifest import BLOCK_BYTES, MAX_MANIFEST_BYTES, BundleManifest, encode_manifest, file_entry
from ota.slots import Slot, SlotDamaged, Slots
from ota.trust import Offer
from tests.ota.changed import Change, Changed, Cut, Held, Open
from tests.ota.fleet import CAR, Fleet

SIZE = 4 * BLOCK_BYTES + 1234


@pytest.fixture
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def manifest(fleet: Fleet, content: bytes) -> BundleManifest:
    made = fleet.release("1.0", 1, files={"a.onnx": content, "b.json": b"{}", "empty": b""})
    fleet.assign(made)
    return made


@pytest.fixture
def slots(state: Path) -> Slots:
    state.mkdir()
    return Slots(RealDisk(state), Kind.MODEL)


def unwatched(_: Progress) -> None: ...


def offer_of(fleet: Fleet, state: Path) -> Offer:
    (offer,) = fleet.trust(state / "trust").refresh(fleet.source())
    return offer


def test_every_byte_arrives_and_the_slot_is_sealed(
    fleet: Fleet, manifest: BundleManifest, content: bytes, slots: Slots, state: Path
) -> None:
    told: list[Progress] = []
    slots.empty(Slot.A)
    progress = fetch_bundle(fleet.source(), manifest, slots, Slot.A, told.append)
    assert progress == told[-1] == Progress(SIZE + 2, 0, SIZE + 2)
    installed = slots.seal(Slot.A, encode_manifest(manifest))
    assert installed.release == 1
    assert (state / str(slots.path(Slot.A)) / "a.onnx").read_bytes() == content
    assert slots.manifest(Slot.A) == manifest


@pytest.mark.parametrize("share", [0.0, 0.1, 0.62, 0.999])
def test_a_cut_download_goes_on_where_it_was_cut(
    fleet: Fleet, manifest: BundleManifest, slots: Slots, share: float
) -> None:
    slots.empty(Slot.A)
    cut = Cut(fleet.source(), int(SIZE * share))
    with pytest.raises(FetchError):
        fetch_bundle(cut, manifest, slots, Slot.A, unwatched)
    again = Cut(fleet.source(), 1 << 40)
    # Emptied again, as every install begins: what lies there stays.
    slots.empty(Slot.A)
    progress = fetch_bundle(again, manifest, slots, Slot.A, unwatched)
    assert progress.kept + progress.fetched == manifest.size
    assert cut.given + again.given - manifest.size <= BLOCK_BYTES
    slots.seal(Slot.A, encode_manifest(manifest))


def test_blocks_that_an_older_release_left_arent_fetched_again(
    fleet: Fleet, manifest: BundleManifest, content: bytes, slots: Slots
) -> None:
    slots.empty(Slot.A)
    fetch_bundle(fleet.source(), manifest, slots, Slot.A, unwatched)
    slots.seal(Slot.A, encode_manifest(manifest))
    changed = content[: 2 * BLOCK_BYTES] + b"!" + content[2 * BLOCK_BYTES + 1 :]
    newer = fleet.release("1.1", 2, files={"a.onnx": changed})
    slots.empty(Slot.A)
    progress = fetch_bundle(fleet.source(), newer, slots, Slot.A, unwatched)
    assert progress.fetched == BLOCK_BYTES
    slots.seal(Slot.A, encode_manifest(newer))


def test_a_shorter_file_leaves_nothing_of_a_longer_one_behind(
    fleet: Fleet, manifest: BundleManifest, slots: Slots, state: Path
) -> None:
    slots.empty(Slot.A)
    fetch_bundle(fleet.source(), manifest, slots, Slot.A, unwatched)
    newer = fleet.release("1.1", 2, files={"a.onnx": b"short"})
    slots.empty(Slot.A)
    fetch_bundle(fleet.source(), newer, slots, Slot.A, unwatched)
    slots.seal(Slot.A, encode_manifest(newer))
    folder = state / str(slots.path(Slot.A))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.onnx": b"short"}


PATTERN = (bytes(range(256)) * (SIZE // 256 + 1))[:SIZE]
PATTERNED = BundleManifest(
    kind=Kind.MODEL, name="drive", version="1.0", release=1, hardware=("any",),
    files=(file_entry("model.onnx", (PATTERN[at : at + BLOCK_BYTES] for at in range(0, SIZE, BLOCK_BYTES))),),
)  # fmt: skip


@given(at=st.integers(0, SIZE - 1))
@settings(max_examples=20)
def test_one_flipped_byte_is_refused_by_its_block_and_never_written(at: int) -> None:
    def flipped(path: str, data: bytes) -> bytes:
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    disk = CrashDisk()
    slots = Slots(disk, Kind.MODEL)
    slots.empty(Slot.A)
    with pytest.raises(TrustError, match=f"tampered: block {at // BLOCK_BYTES} of model.onnx") as refusal:
        fetch_bundle(Changed(Held(PATTERN), flipped), PATTERNED, slots, Slot.A, unwatched)
    assert refusal.value.attack is Attack.TAMPERED
    path = f"{slots.path(Slot.A)}/model.onnx"
    assert not disk.exists(path) or disk.size(path) == at // BLOCK_BYTES * BLOCK_BYTES


def test_a_full_disk_gives_back_what_was_fetched(fleet: Fleet, manifest: BundleManifest) -> None:
    disk = CrashDisk()
    slots = Slots(disk, Kind.MODEL)
    slots.empty(Slot.A)
    path = f"{slots.path(Slot.A)}/a.onnx"
    full = 2 * BLOCK_BYTES
    disk.fail(lambda call: call.act == "write_at" and disk.size(path) >= full, DiskFull("No space left on device."))
    with pytest.raises(NoRoomForUpdate, match=rf"has {manifest.size} bytes and the disk was full after {full}:"):
        fetch_bundle(fleet.source(), manifest, slots, Slot.A, unwatched)
    assert disk.names(str(slots.path(Slot.A))) == []


@pytest.mark.parametrize(
    ("change", "attack"),
    [
        (lambda path, data: data.replace(b"drive", b"drivf"), Attack.TAMPERED),
        (lambda path, data: bytes(len(data)), Attack.TAMPERED),
    ],
)
def test_a_manifest_that_isnt_what_was_signed_is_refused(
    fleet: Fleet, manifest: BundleManifest, state: Path, change: Change, attack: Attack
) -> None:
    offer = offer_of(fleet, state)
    with pytest.raises(TrustError) as refusal:
        fetch_manifest(Changed(fleet.source(), change), offer)
    assert refusal.value.attack is attack


def test_a_manifest_for_other_hardware_than_was_signed_for_is_refused(
    fleet: Fleet, manifest: BundleManifest, state: Path
) -> None:
    offer = replace(offer_of(fleet, state), hardware=("any",))
    with pytest.raises(TrustError, match=r"1\.0\.json was signed for any, its manifest is for x86_64") as refusal:
        fetch_manifest(fleet.source(), offer)
    assert refusal.value.attack is Attack.MIX_AND_MATCH


def test_a_manifest_that_is_too_large_isnt_even_asked_for(fleet: Fleet, manifest: BundleManifest, state: Path) -> None:
    offer = replace(offer_of(fleet, state), length=MAX_MANIFEST_BYTES + 1)
    source = Changed(fleet.source())
    with pytest.raises(TrustError, match="endless-data") as refusal:
        fetch_manifest(source, offer)
    assert refusal.value.attack is Attack.ENDLESS_DATA
    assert source.asked == []


def test_a_manifest_that_ends_early_is_fetched_again_later(fleet: Fleet, manifest: BundleManifest, state: Path) -> None:
    offer = offer_of(fleet, state)
    with pytest.raises(FetchError, match=f"ended after 10 of {offer.length} bytes"):
        fetch_manifest(Changed(fleet.source(), lambda path, data: data[:10]), offer)


def test_more_than_was_asked_for_is_left_unread(fleet: Fleet, manifest: BundleManifest, slots: Slots) -> None:
    class Endless(Open):
        given = 0

        def read(self, path: str, offset: int, most: int):  # type: ignore[no-untyped-def]
            while True:
                self.given += 65_536
                yield bytes(65_536)

    endless = Endless()
    slots.empty(Slot.A)
    with pytest.raises(TrustError):
        fetch_bundle(endless, manifest, slots, Slot.A, unwatched)
    assert endless.given <= 6 * BLOCK_BYTES


def test_a_slot_in_which_a_byte_changed_is_no_longer_bootable(
    fleet: Fleet, manifest: BundleManifest, slots: Slots, state: Path
) -> None:
    from msgspec.structs import replace as renewed

    slots.empty(Slot.A)
    fetch_bundle(fleet.source(), manifest, slots, Slot.A, unwatched)
    installed = slots.seal(Slot.A, encode_manifest(manifest))
    slots.write(renewed(slots.record, slots={Slot.A: installed}))
    slots.demand_bootable(Slot.A)
    path = state / str(slots.path(Slot.A)) / "a.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(SlotDamaged, match=r"a\.onnx in slot a"):
        slots.demand_bootable(Slot.A)


@pytest.mark.parametrize(
    "path",
    ["files/../../keys/model.pem", "director/../keys.json", "targets/model/x.json", "files/abc", "", "image/", "keys/a",
     "director/vehicles/car-2/timestamp.json", "image/metadata/1.root.json", "files/" + "A" * 64],
)  # fmt: skip
def test_nothing_but_published_paths_can_be_asked_for(fleet: Fleet, path: str) -> None:
    assert published(path, CAR) is None
    with pytest.raises(NotThere):
        list(fleet.source().read(path, 0, 10))


@pytest.mark.parametrize("vehicle", ["", "..", "../car-2", "a/b", "x" * 65, ".hidden"])
def test_a_vehicle_is_no_path(vehicle: str) -> None:
    assert published("director/timestamp.json", vehicle) is None
