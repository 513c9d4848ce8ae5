"""A bundle's way into a slot: verified block by block, resumed at the first that isn't right, never half believed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk, CrashState, violation
from ecu.disk import DiskFull, RealDisk
from ota.errors import Attack, FetchError, NoRoomForUpdate, NotThere, OtaError, TrustError
from ota.fetch import fetch_bundle, fetch_manifest, seal_bundle
from ota.kinds import Kind
from ota.landing import Progress
from ota.layout import published
from ota.manifest import BLOCK_BYTES, MAX_MANIFEST_BYTES, BundleManifest, encode_manifest, file_entry
from ota.slots import BootRecord, Slot, SlotDamaged, Slots
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


@pytest.mark.parametrize("changed", [{2}, {0, 3}, {1, 2, 4}])
def test_blocks_that_an_older_release_left_arent_fetched_again(
    fleet: Fleet, manifest: BundleManifest, content: bytes, slots: Slots, changed: set[int]
) -> None:
    slots.empty(Slot.A)
    fetch_bundle(fleet.source(), manifest, slots, Slot.A, unwatched)
    slots.seal(Slot.A, encode_manifest(manifest))
    another = bytearray(content)
    for index in changed:
        another[index * BLOCK_BYTES] ^= 1
    newer = fleet.release("1.1", 2, files={"a.onnx": bytes(another)})
    slots.empty(Slot.A)
    progress = fetch_bundle(fleet.source(), newer, slots, Slot.A, unwatched)
    assert progress.fetched == sum(newer.files[0].block_bytes(index) for index in changed)
    slots.seal(Slot.A, encode_manifest(newer))


def test_of_several_files_what_is_missing_is_fetched_and_nothing_else(slots: Slots) -> None:
    contents = {"a.onnx": PATTERN[: 2 * BLOCK_BYTES], "b.onnx": PATTERN[::-1]}
    manifest = bundle(contents)
    slots.empty(Slot.A)
    for index in (0, 1, 3):
        block = contents["b.onnx"][index * BLOCK_BYTES :][:BLOCK_BYTES]
        slots.put_block(Slot.A, manifest.files[1], index, block)
    progress = fetch_bundle(Held(*contents.values()), manifest, slots, Slot.A, unwatched)
    assert progress == Progress(manifest.size, 3 * BLOCK_BYTES, manifest.size - 3 * BLOCK_BYTES)
    slots.seal(Slot.A, encode_manifest(manifest))


def test_a_file_that_ends_early_is_fetched_on_later(slots: Slots) -> None:
    short = Changed(Held(PATTERN), lambda path, data: data[: 2 * BLOCK_BYTES + 7])
    slots.empty(Slot.A)
    with pytest.raises(FetchError, match=r"model\.onnx ended within block 2 of 5"):
        fetch_bundle(short, PATTERNED, slots, Slot.A, unwatched)
    again = fetch_bundle(Held(PATTERN), PATTERNED, slots, Slot.A, unwatched)
    assert again.kept == 2 * BLOCK_BYTES


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


def cut_evenly(content: bytes) -> Iterator[bytes]:
    return (content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES))


PATTERN = (bytes(range(256)) * (SIZE // 256 + 1))[:SIZE]


def bundle(contents: dict[str, bytes], release: int = 1) -> BundleManifest:
    files = tuple(file_entry(name, cut_evenly(content)) for name, content in sorted(contents.items()))
    return BundleManifest(kind=Kind.MODEL, name="drive", version="1.0", release=release, hardware=("any",), files=files)


PATTERNED = bundle({"model.onnx": PATTERN})


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


def test_a_power_cut_takes_back_no_block_that_was_told_of() -> None:
    content = PATTERN[: 2 * BLOCK_BYTES + 5]
    manifest = bundle({"model.onnx": content})

    def fetches(disk: CrashDisk) -> None:
        slots = Slots(disk, Kind.MODEL)
        slots.empty(Slot.A)
        told = count()
        fetch_bundle(Held(content), manifest, slots, Slot.A, lambda progress: disk.mark(str(next(told))))

    def they_are_there(state: CrashState) -> None:
        slots = Slots(state.disk, Kind.MODEL)
        assert all(slots.has_block(Slot.A, manifest.files[0], int(index)) for index in state.acknowledged)

    assert violation(fetches, they_are_there, CrashDisk()) is None


def test_a_power_cut_takes_nothing_from_a_slot_that_was_named_good() -> None:
    contents = {"empty": b"", "model.onnx": b"weights"}
    before = CrashDisk()
    install(before, {"left.bin": b"of an older release", "model.onnx": b"older weights, and longer"}, 1)

    def installs(disk: CrashDisk) -> None:
        install(disk, contents, 2)
        disk.mark("named")

    def whole_once_named(state: CrashState) -> None:
        slots = Slots(state.disk, Kind.MODEL)
        if state.acknowledged:
            assert slots.record.slots[Slot.A].release == 2
        if Slot.A in slots.record.slots:
            slots.demand_bootable(Slot.A)

    assert violation(installs, whole_once_named, before.after_shutdown()) is None


def install(disk: CrashDisk, contents: dict[str, bytes], release: int) -> None:
    slots = Slots(disk, Kind.MODEL)
    slots.empty(Slot.A)
    manifest = bundle(contents, release)
    fetch_bundle(Held(*contents.values()), manifest, slots, Slot.A, unwatched)
    installed = slots.seal(Slot.A, encode_manifest(manifest))
    slots.write(BootRecord(good=Slot.A, slots={Slot.A: installed}))


def test_blocks_that_are_right_and_make_another_file_are_never_named(slots: Slots) -> None:
    entry = PATTERNED.files[0].model_copy(update={"sha256": "0" * 64})
    manifest = PATTERNED.model_copy(update={"files": (entry,)})
    slots.empty(Slot.A)
    for index in range(len(entry.blocks)):
        slots.put_block(Slot.A, entry, index, PATTERN[index * BLOCK_BYTES :][:BLOCK_BYTES])
    with pytest.raises(OtaError):
        slots.seal(Slot.A, encode_manifest(manifest))
    assert slots.manifest(Slot.A) is None


def test_a_whole_release_that_isnt_the_recorded_one_doesnt_boot() -> None:
    disk = CrashDisk()
    install(disk, {"model.onnx": b"weights"}, 1)
    slots = Slots(disk, Kind.MODEL)
    record = slots.record
    install(disk, {"model.onnx": b"others"}, 2)
    slots.write(record)
    with pytest.raises(SlotDamaged, match="manifest in slot a"):
        slots.demand_bootable(Slot.A)


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


@pytest.mark.parametrize("signed_as", [{"target": "model/drive-1.1.json"}, {"release": 2}])
def test_a_manifest_of_another_release_than_was_signed_there_is_refused(
    fleet: Fleet, manifest: BundleManifest, state: Path, signed_as: dict[str, Any]
) -> None:
    class Whatever(Open):
        def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
            yield encode_manifest(manifest)

    with pytest.raises(TrustError, match=r"has the manifest of model/drive-1\.0\.json release 1") as refusal:
        fetch_manifest(Whatever(), replace(offer_of(fleet, state), **signed_as))
    assert refusal.value.attack is Attack.MIX_AND_MATCH


def test_an_emptied_slot_says_that_it_holds_nothing(fleet: Fleet, manifest: BundleManifest, slots: Slots) -> None:
    slots.empty(Slot.A)
    fetch_bundle(fleet.source(), manifest, slots, Slot.A, unwatched)
    slots.seal(Slot.A, encode_manifest(manifest))
    slots.empty(Slot.A)
    assert slots.manifest(Slot.A) is None


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


@pytest.mark.parametrize(("begins", "attack"), [(b"", Attack.TAMPERED), (PATTERN, Attack.ENDLESS_DATA)])
def test_more_than_was_asked_for_is_left_unread(slots: Slots, begins: bytes, attack: Attack) -> None:
    given = 0

    class Endless(Open):
        def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
            nonlocal given
            yield begins
            while given < 64 * BLOCK_BYTES:
                given += 65_536
                yield bytes(65_536)

    slots.empty(Slot.A)
    with pytest.raises(TrustError) as refusal:
        fetch_bundle(Endless(), PATTERNED, slots, Slot.A, unwatched)
    assert refusal.value.attack is attack
    assert given <= 6 * BLOCK_BYTES


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
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
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


@pytest.mark.parametrize(
    ("offset", "most"), [(0, 10), (7, 100_000), (70_000, 70_000), (0, 0), (SIZE - 3, 10), (SIZE, 1)]
)
def test_a_folder_gives_what_was_asked_for_and_no_byte_more(
    fleet: Fleet, manifest: BundleManifest, content: bytes, offset: int, most: int
) -> None:
    given = b"".join(fleet.source().read(f"files/{manifest.files[0].sha256}", offset, most))
    assert given == content[offset : offset + most]


def test_a_medium_that_cant_be_read_is_no_attack(fleet: Fleet, manifest: BundleManifest) -> None:
    file = fleet.repo / "image/files" / manifest.files[0].sha256
    file.unlink()
    file.mkdir()
    with pytest.raises(FetchError, match="Check the medium"):
        list(fleet.source().read(f"files/{file.name}", 0, 10))


@pytest.mark.parametrize("vehicle", ["", "..", "../car-2", "a/b", "x" * 65, ".hidden"])
def test_a_vehicle_is_no_path(vehicle: str) -> None:
    assert published("director/timestamp.json", vehicle) is None


def test_blocks_that_are_right_and_make_another_file_are_refused_as_malformed(slots: Slots) -> None:
    entry = PATTERNED.files[0].model_copy(update={"sha256": "0" * 64})
    manifest = PATTERNED.model_copy(update={"files": (entry,)})
    slots.empty(Slot.A)
    for index in range(len(entry.blocks)):
        slots.put_block(Slot.A, entry, index, PATTERN[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
    with pytest.raises(TrustError, match=r"malformed: the blocks of .* are right and don't make its files"):
        seal_bundle(encode_manifest(manifest), slots, Slot.A)


def test_a_block_that_flash_gave_back_otherwise_is_no_ones_attack(slots: Slots, state: Path) -> None:
    entry = PATTERNED.files[0]
    slots.empty(Slot.A)
    for index in range(len(entry.blocks)):
        slots.put_block(Slot.A, entry, index, PATTERN[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
    path = state / str(slots.path(Slot.A)) / "model.onnx"
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with pytest.raises(SlotDamaged, match=r"model\.onnx in slot a of model isn't what was installed"):
        seal_bundle(encode_manifest(PATTERNED), slots, Slot.A)
