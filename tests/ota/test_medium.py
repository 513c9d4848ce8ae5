"""What comes on a stick is what would come over a network, or it is refused whole, in words, before any of it is used.

Mutants of ota/zipsource.py and ota/source.py that these tests were seen to catch: each check taken out alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.disk import RealDisk
from ota.errors import Attack, FetchError, NotThere, TrustError
from ota.fetch import check_bundle, fetch_manifest
from ota.kinds import Kind
from ota.manifest import decode_manifest
from ota.medium import MEDIUM_NAME, ZIP_NAME, find_medium
from ota.repository import Desk
from ota.repository.export import paths_for, write_folder, write_zip
from ota.source import FolderSource, Source
from ota.zipsource import ZipSource
from tests.ota.fleet import CAR, Fleet

FILE = f"files/{'a' * 64}"
STORED = f"image/{FILE}"
CONTENT = bytes(range(256)) * 300


def exported(fleet: Fleet, to: Path, write: Callable[..., Path], *vehicles: str) -> Path:
    disk = RealDisk(fleet.repo)
    desk = Desk(disk, fleet.clock)
    return write(disk, paths_for(disk, desk, vehicles or (CAR,)), to, lambda _: None)


def installs(fleet: Fleet, state: Path, source: Source) -> list[str]:
    offers = fleet.trust(state).refresh(source)
    manifests = [decode_manifest(fetch_manifest(source, offer)) for offer in offers]
    for manifest in manifests:
        check_bundle(source, manifest, lambda _: None)
    return [manifest.target for manifest in manifests]


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_a_vehicle_installs_from_a_medium_what_was_exported_for_it_alone(
    fleet: Fleet, tmp_path: Path, write: Callable[..., Path]
) -> None:
    mine = fleet.release("1.0", 1, files={"model.onnx": b"m" * 70_000, "empty.txt": b""})
    other = fleet.release("2.0", 2, content=b"other")
    fleet.assign(mine)
    fleet.assign(other, vehicle="car-2")
    exported(fleet, tmp_path / "stick", write)
    found = find_medium(tmp_path)
    assert found is not None
    source = found.open(CAR)
    assert installs(fleet, tmp_path / "state", source) == [mine.target]
    source.close()
    theirs = found.open("car-2")
    with pytest.raises(FetchError):
        fleet.trust(tmp_path / "state-2", vehicle="car-2").refresh(theirs)
    with pytest.raises(NotThere):
        list(theirs.read(f"files/{other.files[0].sha256}", 0, 1))
    theirs.close()


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_an_export_that_is_done_again_over_the_old_one_is_the_new_one(
    fleet: Fleet, tmp_path: Path, write: Callable[..., Path]
) -> None:
    stick = tmp_path / "stick"
    fleet.assign(fleet.release("1.0", 1))
    exported(fleet, stick, write)
    before = find_medium(stick)
    fleet.assign(fleet.release("2.0", 2, content=b"newer"))
    exported(fleet, stick, write)
    after = find_medium(stick)
    assert before is not None
    assert after is not None
    assert before != after
    source = after.open(CAR)
    assert installs(fleet, tmp_path / "state", source) == ["model/drive-2.0.json"]
    source.close()


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert find_medium(tmp_path) is None
    assert find_medium(tmp_path / "missing") is None
    (tmp_path / "stick").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / ZIP_NAME).write_bytes(b"")
    (tmp_path / "stick" / "deep").symlink_to(tmp_path / "real")
    assert find_medium(tmp_path / "stick") is None


# --- folders ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    at = tmp_path / MEDIUM_NAME
    (at / "image/files").mkdir(parents=True)
    (at / STORED).write_bytes(CONTENT)
    return at


def test_a_plain_file_of_a_folder_is_read_and_a_link_in_its_place_is_not(folder: Path) -> None:
    source = FolderSource(folder, CAR)
    assert b"".join(source.read(FILE, 5, 70_000)) == CONTENT[5:70_005]
    (folder / STORED).rename(folder / "elsewhere")
    (folder / STORED).symlink_to(folder / "elsewhere")
    with pytest.raises(FetchError):
        list(source.read(FILE, 0, 10))


def test_a_folder_that_is_a_link_is_not_followed(folder: Path) -> None:
    (folder / "image/files").rename(folder / "files")
    (folder / "image/files").symlink_to(folder / "files")
    with pytest.raises(FetchError):
        list(FolderSource(folder, CAR).read(FILE, 0, 10))


def test_a_pipe_in_a_files_place_holds_nobody_up(folder: Path) -> None:
    (folder / STORED).unlink()
    os.mkfifo(folder / STORED)
    with pytest.raises(FetchError, match="plain file"):
        list(FolderSource(folder, CAR).read(FILE, 0, 10))


# --- archives ---------------------------------------------------------------------------------------


def archive(at: Path, *more: tuple[zipfile.ZipInfo | str, bytes], compress: int = zipfile.ZIP_STORED) -> Path:
    at.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(at, "w", compress) as file:
        file.writestr(STORED, CONTENT)
        for info, data in more:
            file.writestr(info, data)
    return at


def entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return archive(tmp_path / ZIP_NAME, ("image/files/", b""), ("image/files/x", b"y"))


def read(path: Path, name: str = FILE, offset: int = 0, most: int = 1 << 30) -> bytes:
    source = ZipSource(path, CAR)
    try:
        return b"".join(source.read(name, offset, most))
    finally:
        source.close()


def refusal(path: Path) -> str:
    with pytest.raises(TrustError) as refused:
        read(path)
    assert refused.value.attack in (Attack.MALFORMED, Attack.ENDLESS_DATA)
    return str(refused.value)


@settings(max_examples=40)
@given(st.integers(0, len(CONTENT) + 10), st.integers(0, len(CONTENT) + 10))
def test_any_range_of_a_stored_member_is_its_bytes(offset: int, most: int) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"outrider-range-{os.getpid()}" / ZIP_NAME
    if not path.exists():
        archive(path)
    assert read(path, offset=offset, most=most) == CONTENT[offset : offset + most]


def test_what_isnt_in_it_or_may_not_be_asked_for_isnt_there(good: Path) -> None:
    for name in (f"files/{'b' * 64}", "image/files/x", "../x", "/etc/passwd", "director/timestamp.json"):
        with pytest.raises(NotThere):
            read(good, name)


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "a//b", "./a", "a\\b", "C:x", "a/..", "\u00e4", "a\x1b[2J"],
)  # fmt: skip
def test_an_archive_with_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    if name == "a\x1b[2J":
        assert read(archive(tmp_path / ZIP_NAME, (entry(name), b"x")))
        return
    assert refusal(archive(tmp_path / ZIP_NAME, (entry(name), b"x"))).isprintable()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", [STORED, STORED.upper()])
def test_an_archive_with_a_name_twice_is_refused(tmp_path: Path, again: str) -> None:
    assert "twice" in refusal(archive(tmp_path / ZIP_NAME, (again, b"other")))


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644, 0o140644])
def test_an_archive_with_a_link_or_a_device_is_refused(tmp_path: Path, mode: int) -> None:
    assert "link" in refusal(archive(tmp_path / ZIP_NAME, (entry("image/x", mode), b"/etc/passwd")))


def test_an_archive_with_a_folder_that_has_content_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / ZIP_NAME, (entry("image/files/y"), b"content"))
    assert read(path) == CONTENT
    assert "folder" in refusal(patched(path, lambda data: _replace_all(data, b"image/files/y", b"image/filesy/")))


def _replace_all(data: bytearray, old: bytes, new: bytes) -> None:
    data[:] = data.replace(old, new)


def test_an_archive_with_a_compressed_member_is_refused_and_none_of_it_inflates(tmp_path: Path) -> None:
    bomb = bytes(50 << 20)
    assert "compressed" in refusal(archive(tmp_path / ZIP_NAME, ("bomb", bomb), compress=zipfile.ZIP_DEFLATED))


def patched(path: Path, change: Callable[[bytearray], object]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def central(data: bytearray, number: int = 0) -> int:
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    return at


def local(data: bytearray, number: int = 0) -> int:
    return int(struct.unpack_from("<L", data, central(data, number) + 42)[0])


DEFECTS: dict[str, Callable[[bytearray], object]] = {
    "encrypted": lambda data: struct.pack_into("<H", data, central(data) + 8, 1),
    "strongly encrypted": lambda data: struct.pack_into("<H", data, central(data) + 8, 0x40),
    "masked": lambda data: struct.pack_into("<H", data, central(data) + 8, 0x2000),
    "patched": lambda data: struct.pack_into("<H", data, central(data) + 8, 0x20),
    "another method": lambda data: struct.pack_into("<H", data, central(data) + 10, 8),
    "two sizes": lambda data: struct.pack_into("<L", data, central(data) + 20, 5),
    "larger than it is": lambda data: struct.pack_into("<LL", data, central(data) + 20, 1 << 30, 1 << 30),
    "over its neighbour": lambda data: struct.pack_into("<LL", data, central(data) + 20, *[len(CONTENT) + 1] * 2),
    "in the same place": lambda data: struct.pack_into("<L", data, central(data, 2) + 42, local(data)),
    "on another disk": lambda data: struct.pack_into("<H", data, central(data) + 34, 1),
    "large without a size": lambda data: struct.pack_into("<L", data, central(data) + 24, 0xFFFFFFFF),
    "no list": lambda data: data.__setitem__(slice(central(data), central(data) + 2), b"XX"),
    "fewer than said": lambda data: struct.pack_into("<HH", data, len(data) - 14, 9, 9),
    "more than said": lambda data: struct.pack_into("<HH", data, len(data) - 14, 1, 1),
    "several disks": lambda data: struct.pack_into("<H", data, len(data) - 18, 1),
    "a list elsewhere": lambda data: struct.pack_into("<L", data, len(data) - 6, 4),
    "a longer list": lambda data: struct.pack_into("<L", data, len(data) - 10, 1 << 20),
    "an endless list": lambda data: struct.pack_into("<L", data, len(data) - 10, 1 << 30),
    "bytes between its list and its end": lambda data: data.__setitem__(slice(-22, -22), b"hidden"),
    "bytes behind its end": lambda data: data.extend(b"x"),
    "a comment": lambda data: data.__setitem__(slice(-2, None), b"\x03\x00abc"),
    "cut": lambda data: data.__delitem__(slice(-1, None)),
    "cut short": lambda data: data.__delitem__(slice(10, None)),
    "large and no place": lambda data: struct.pack_into("<L", data, len(data) - 6, 0xFFFFFFFF),
    "another name in its header": lambda data: data.__setitem__(slice(local(data) + 30, local(data) + 31), b"X"),
    "another method in its header": lambda data: struct.pack_into("<H", data, local(data) + 8, 8),
    "encrypted in its header": lambda data: struct.pack_into("<H", data, local(data) + 6, 1),
    "a header that reaches over": lambda data: struct.pack_into("<H", data, local(data) + 28, 60000),
    "no header": lambda data: data.__setitem__(slice(local(data), local(data) + 2), b"XX"),
    "a folder with content": lambda data: struct.pack_into("<LL", data, central(data, 1) + 20, 1, 1),
    "too large": lambda data: struct.pack_into("<LL", data, central(data) + 20, *[0xFFFFFFFE] * 2),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_an_archive_with_one_defect_is_refused_and_its_twin_is_read(good: Path, tmp_path: Path, defect: str) -> None:
    assert read(good) == CONTENT
    bad = shutil.copy(good, tmp_path / "bad.zip")
    assert refusal(patched(Path(bad), DEFECTS[defect])).isprintable()


def test_a_link_in_the_archives_own_place_is_not_followed(good: Path, tmp_path: Path) -> None:
    (tmp_path / "link.zip").symlink_to(good)
    with pytest.raises(FetchError):
        ZipSource(tmp_path / "link.zip", CAR)


def test_who_leaves_an_archive_doesnt_wait_for_a_medium_that_hangs(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, begun, goes_on, outcome = ZipSource(good, CAR), threading.Event(), threading.Event(), list[bytes]()
    pread, close, closed = os.pread, os.close, list[int]()

    def hanging(fd: int, length: int, at: int) -> bytes:
        begun.set()
        assert goes_on.wait(60)
        assert fd not in closed
        return pread(fd, length, at)

    def watched(fd: int) -> None:
        closed.append(fd)
        close(fd)

    def read_on() -> None:
        with contextlib.suppress(FetchError):
            outcome.extend(source.read(FILE, 0, 1 << 30))

    monkeypatch.setattr("ota.zipsource.os.pread", hanging)
    monkeypatch.setattr("ota.zipsource.os.close", watched)
    reader = threading.Thread(target=read_on)
    reader.start()
    assert begun.wait(60)
    source.close()
    assert closed == []
    goes_on.set()
    reader.join()
    assert len(closed) == 1
    assert outcome == []
    source.close()
    assert len(closed) == 1


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_a_stick_by_an_unprintable_name_is_told_of_in_words_that_can_be_printed(
    fleet: Fleet, tmp_path: Path, write: Callable[..., Path]
) -> None:
    fleet.assign(fleet.release("1.0", 1))
    stick = tmp_path / os.fsdecode(b"usb\xff\n")
    exported(fleet, stick, write)
    found = find_medium(stick)
    assert found is not None
    source = found.open(CAR)
    with pytest.raises(NotThere) as missing:
        list(source.read(f"files/{'b' * 64}", 0, 1))
    source.close()
    assert str(missing.value).isprintable()
    assert str(missing.value).encode()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_refused_or_gives_some_bytes_and_never_a_crash(data: st.DataObject) -> None:
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"outrider-damage-{os.getpid()}"
    whole = bytearray(archive(folder / ZIP_NAME, ("image/x", b"y")).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(len(CONTENT), len(whole) - 1) | st.integers(0, 90))
        whole[at] = data.draw(st.integers(0, 255))
    (folder / "bad.zip").write_bytes(whole)
    with contextlib.suppress(TrustError, FetchError):
        assert len(read(folder / "bad.zip")) <= len(whole)


@pytest.mark.soak
def test_an_archive_of_more_than_4_gib_is_read_by_ranges(tmp_path: Path) -> None:
    size, end = (4 << 30) + 12_345, b"the end"
    path = tmp_path / ZIP_NAME
    with zipfile.ZipFile(path, "w") as file:
        with file.open(zipfile.ZipInfo(STORED), "w", force_zip64=True) as member:
            for _ in range((size - len(end)) >> 20):
                member.write(bytes(1 << 20))
            member.write(bytes((size - len(end)) & ((1 << 20) - 1)) + end)
        file.writestr(f"image/files/{'b' * 64}", b"behind it")
    assert read(path, offset=size - len(end)) == end
    assert read(path, f"files/{'b' * 64}") == b"behind it"


def test_a_large_archives_own_form_is_read(tmp_path: Path) -> None:
    """Zip64 fields for a small member, as an export writes them from 2 GiB on."""
    path = tmp_path / ZIP_NAME
    with zipfile.ZipFile(path, "w") as file, file.open(zipfile.ZipInfo(STORED), "w", force_zip64=True) as member:
        member.write(CONTENT)
    assert read(path) == CONTENT


def test_a_member_larger_than_any_bundle_is_refused_as_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written as a large archive is, in every part, and read as such before the size is made to lie."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    path = archive(tmp_path / ZIP_NAME)
    assert b"PK\x06\x06" in path.read_bytes()
    assert read(path) == CONTENT
    said, lie = struct.pack("<QQ", len(CONTENT), len(CONTENT)), struct.pack("<QQ", 9 << 30, 9 << 30)
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")
    path.write_bytes(data[:at] + data[at:].replace(said, lie))
    with pytest.raises(TrustError) as refused:
        read(path)
    assert refused.value.attack is Attack.ENDLESS_DATA


def test_kinds_of_all_sorts_travel_on_one_stick(fleet: Fleet, tmp_path: Path) -> None:
    both = [fleet.release("1.0", 1), fleet.release("1.0", 1, kind=Kind.EVALUATION)]
    fleet.assign(*both)
    source = ZipSource(exported(fleet, tmp_path, write_zip), CAR)
    assert installs(fleet, tmp_path / "state", source) == sorted(its.target for its in both)
    source.close()
