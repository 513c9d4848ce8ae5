"""Flash is read by its formats alone, and says what the product's own reading says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ota.denied import Denied
from ota.kinds import Kind
from ota.machine import State
from ota.slots import BootRecord, Slot, Slots
from ota.source import FolderSource
from ota.trust import ANY_HARDWARE, Vehicle
from ota.updates import Updates
from simulator.demo.flash import FlashFault, boot_record, denied, fingerprint, is_whole, slot_files
from simulator.demo.signing import SigningDesk

CAR = "car-1"


@pytest.fixture
def car(tmp_path: Path) -> Path:
    """Its folder of updates, after it has staged a release."""
    content = tmp_path / "content"
    content.mkdir()
    (content / "weights").write_bytes(b"weights")
    (content / "model.json").write_bytes(b"{}")
    desk = SigningDesk(tmp_path / "desk", SystemClock())
    desk.assign([CAR], [desk.release(content, Kind.MODEL, "drive", "1.0", 1)])
    folder, source = tmp_path / "car", FolderSource(desk.fleet, CAR)
    folder.mkdir()
    disk = RealDisk(folder)
    updates = Updates(disk, desk.roots, Vehicle(CAR, ANY_HARDWARE), SystemClock(), lambda notice: None)
    for offer in updates.check(source):
        updates.install(source, offer, lambda progress: None)
    return folder


def test_the_boot_record_is_what_was_written_and_its_slot_whole(car: Path) -> None:
    record = boot_record(car / "model")
    assert (record["good"], record["trial"], record["state"]) == ("factory", "a", "staged")
    digest = record["slots"]["a"]["digest"]
    assert is_whole(car / "model", "a", digest)
    assert not is_whole(car / "model", "a", "0" * 64)


@pytest.mark.parametrize("name", ["files/weights", "files/model.json", "bundle.json"])
def test_a_slot_with_another_byte_is_not_whole(car: Path, name: str) -> None:
    digest = boot_record(car / "model")["slots"]["a"]["digest"]
    path = car / "model" / "a" / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    assert not is_whole(car / "model", "a", digest)


@pytest.mark.parametrize("name", ["files/weights", "files", "bundle.json"])
def test_a_slot_that_lacks_something_is_not_whole(car: Path, name: str) -> None:
    digest = boot_record(car / "model")["slots"]["a"]["digest"]
    (car / "model" / "a" / name).rename(car / "elsewhere")
    assert not is_whole(car / "model", "a", digest)
    assert not is_whole(car / "model", "b", digest)


def test_a_slot_with_a_file_that_nobody_named_is_not_whole(car: Path) -> None:
    digest = boot_record(car / "model")["slots"]["a"]["digest"]
    (car / "model" / "a" / "files" / "more").touch()
    assert not is_whole(car / "model", "a", digest)


def test_the_newer_of_two_records_counts_and_a_torn_one_does_not(car: Path) -> None:
    slots = Slots(RealDisk(car), Kind.MODEL)
    slots.write(BootRecord(good=Slot.B, state=State.COMMITTED))
    assert boot_record(car / "model")["good"] == "b"
    (car / "model" / "boot.0").write_bytes(bytes(4096))
    assert boot_record(car / "model")["good"] == "b"
    for torn in (bytes(4096), b"", b"OTWN"):
        (car / "model" / "boot.1").write_bytes(torn)
        with pytest.raises(FlashFault, match="No boot record"):
            boot_record(car / "model")


@pytest.mark.parametrize("name", ["boot.0", "boot.1"])
def test_of_two_whole_records_the_newer_one_counts_wherever_it_lies(car: Path, name: str) -> None:
    older = (car / "model" / name).read_bytes()
    Slots(RealDisk(car), Kind.MODEL).write(BootRecord(good=Slot.B, state=State.COMMITTED))
    (car / "model" / name).write_bytes(older)
    assert boot_record(car / "model")["good"] == "b"


def test_a_record_with_another_bit_is_none(car: Path) -> None:
    Slots(RealDisk(car), Kind.MODEL).write(BootRecord(good=Slot.B, state=State.COMMITTED))
    for name in ("boot.0", "boot.1"):
        data = (car / "model" / name).read_bytes()
        (car / "model" / name).write_bytes(data.replace(b'"b"', b'"a"'))
    with pytest.raises(FlashFault, match="No boot record"):
        boot_record(car / "model")


def test_a_vehicle_that_never_wrote_one_boots_the_factorys(tmp_path: Path) -> None:
    assert boot_record(tmp_path)["good"] == "factory"


def test_denied_digests_are_read_and_damaged_lines_left_out(tmp_path: Path) -> None:
    assert denied(tmp_path) == frozenset()
    file = Denied(RealDisk(tmp_path))
    for digest in ("a" * 64, "b" * 64):
        file.add(digest)
    assert denied(tmp_path) == {"a" * 64, "b" * 64}
    data = (tmp_path / "denied").read_bytes()
    (tmp_path / "denied").write_bytes(b"c" + data[1:])
    assert denied(tmp_path) == {"b" * 64}


def test_a_fingerprint_knows_every_name_and_byte(car: Path) -> None:
    files = slot_files(car / "model", "a")
    before = fingerprint(files)
    (files / "weights").rename(files / "weight")
    renamed = fingerprint(files)
    (files / "weight").write_bytes(b"weightS")
    assert len({before, renamed, fingerprint(files)}) == 3
