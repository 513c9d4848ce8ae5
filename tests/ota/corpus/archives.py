"""What is brought on a stick: archives and folders that aren't as an export makes them."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from ota.errors import FetchError, Flaw, NotThere, OtaError
from ota.medium import MEDIUM_NAME, ZIP_NAME
from tests.ota.corpus.case import Act, Case, Way
from tests.ota.corpus.draft import Draft

STAMP: Final = "image/metadata/timestamp.json"
LARGE: Final = 0xFFFFFFFF


def medium_cases() -> Iterator[Case]:
    yield from _of_members()
    yield from _of_the_list()
    yield from _of_the_end()
    yield from _of_large_ones()
    yield from _of_headers()
    yield from _of_folders()


def _case(defect: str, expected: Any, change: Callable[[bytearray], object], given: Act = lambda draft: None) -> Case:
    return Case(f"archive {defect}", expected, patched(change), given, way=Way.ZIP)


def patched(change: Callable[[bytearray], object]) -> Act:
    def edit(data: bytes) -> bytes:
        its = bytearray(data)
        change(its)
        return bytes(its)

    return lambda draft: draft.edit("archive", edit)


# --- places -----------------------------------------------------------------------------------------


def central(data: bytearray, number: int = 0) -> int:
    at = struct.unpack_from("<L", data, len(data) - 6)[0]
    for _ in range(number):
        names, extras, comments = struct.unpack_from("<HHH", data, at + 28)
        at += 46 + names + extras + comments
    return int(at)


def local(data: bytearray, number: int = 0) -> int:
    return int(struct.unpack_from("<L", data, central(data, number) + 42)[0])


def put(layout: str, where: Callable[[bytearray], int], *values: int) -> Callable[[bytearray], None]:
    return lambda data: struct.pack_into(layout, data, where(data), *values)


def listed(layout: str, offset: int, *values: int) -> Callable[[bytearray], None]:
    return put(layout, lambda data: central(data) + offset, *values)


def headed(layout: str, offset: int, *values: int) -> Callable[[bytearray], None]:
    """Of the timestamp, since the others may never be read."""
    return put(layout, lambda data: _header_of(data, STAMP) + offset, *values)


def ended(layout: str, back: int, *values: int) -> Callable[[bytearray], None]:
    return put(layout, lambda data: len(data) - back, *values)


def _header_of(data: bytearray, name: str) -> int:
    return data.index(name.encode()) - 30


def added(name: str, content: bytes = b"x", mode: int = 0o100644, method: int = zipfile.ZIP_STORED) -> Act:
    """One more member."""

    def edit(data: bytes) -> bytes:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr, info.compress_type = 3, mode << 16, method
        its = io.BytesIO(data)
        with zipfile.ZipFile(its, "a") as archive:
            archive.writestr(info, content)
        return its.getvalue()

    return lambda draft: draft.edit("archive", edit)


# --- members ----------------------------------------------------------------------------------------


def _of_members() -> Iterator[Case]:
    for name in ("../x", "a/../../x", "/etc/x", "a//b", "./a", "a\\b", "C:x", "a/..", "\u00e4", ".."):
        yield _added(f"with the name {name!r}", Flaw.NAME_LEADS_ELSEWHERE, name)
    for words, mode in (("link", 0o120777), ("pipe", 0o010644), ("device", 0o060644), ("socket", 0o140644)):
        yield _added(f"with a {words}", Flaw.LINK_IN_ARCHIVE, "image/x", b"/etc/passwd", mode)
    for words, method in (("deflated", zipfile.ZIP_DEFLATED), ("bzip2", zipfile.ZIP_BZIP2)):
        yield _added(f"with a bomb, {words}", Flaw.COMPRESSED_MEMBER, "bomb", bytes(1 << 22), 0o100644, method)
    for name in (STAMP.upper(), STAMP.replace("json", "JSON")):
        yield _added(f"with the name {name!r} again", Flaw.NAME_TWICE, name)
    yield _case("with one name twice", Flaw.NAME_TWICE, _renamed_alike)
    for words, flag in (("encrypted", 1), ("strongly encrypted", 0x40), ("masked", 0x2000), ("patched", 0x20)):
        yield _case(f"with a member {words}", Flaw.ENCRYPTED_MEMBER, listed("<H", 8, flag))
    for words, method in (("deflated", 8), ("of an unknown method", 99)):
        yield _case(f"with a member that is said to be {words}", Flaw.COMPRESSED_MEMBER, listed("<H", 10, method))
    yield _case("with a member of two sizes", Flaw.COMPRESSED_MEMBER, listed("<L", 20, 5))
    yield _case("with a member larger than any may be", Flaw.ENDLESS_ARCHIVE, _huge, _large)
    yield _case("with a member larger than the archive", Flaw.MEMBERS_OVERLAP, listed("<LL", 20, 1 << 30, 1 << 30))
    yield _case("with a member over its neighbour", Flaw.MEMBERS_OVERLAP, _over_its_neighbour)
    yield _case("with a member that nobody reads over its neighbour", Flaw.MEMBERS_OVERLAP, _unread_over_its_neighbour)
    yield _case("with two members in one place", Flaw.MEMBERS_OVERLAP, _in_one_place)
    yield _case("with a member where its list is", Flaw.MEMBERS_OVERLAP, lambda data: struct.pack_into(
        "<L", data, central(data) + 42, central(data)
    ))  # fmt: skip
    yield Case("archive with a folder that has content", Flaw.MALFORMED_ARCHIVE, _folder_with_content, way=Way.ZIP)


def _added(defect: str, expected: Flaw, *member: Any) -> Case:
    return Case(f"archive {defect}", expected, added(*member), way=Way.ZIP)


def _renamed_alike(data: bytearray) -> None:
    """Two of the same length."""
    one, other = b"image/metadata/6.model.json", b"image/metadata/6.state.json"
    data[:] = data.replace(other, one)


def _huge(data: bytearray) -> None:
    at = data.index(b"PK\x01\x02")
    end = data.index(b"\x01\x00", at + 46)
    struct.pack_into("<QQ", data, end + 4, 9 << 30, 9 << 30)


def _over_its_neighbour(data: bytearray) -> None:
    size = struct.unpack_from("<L", data, central(data) + 20)[0] + 1
    struct.pack_into("<LL", data, central(data) + 20, size, size)


def _unread_over_its_neighbour(data: bytearray) -> None:
    """Another kind's role."""
    at = data.rindex(b"image/metadata/6.state.json") - 46
    size = struct.unpack_from("<L", data, at + 20)[0] + 1
    struct.pack_into("<LL", data, at + 20, size, size)


def _in_one_place(data: bytearray) -> None:
    struct.pack_into("<L", data, central(data, 2) + 42, local(data, 1))


def _folder_with_content(draft: Draft) -> None:
    added("image/files/y", b"content")(draft)
    patched(lambda data: data.__setitem__(slice(None), data.replace(b"image/files/y", b"image/filesy/")))(draft)


# --- list, end, headers -----------------------------------------------------------------------------


def _of_the_list() -> Iterator[Case]:
    for words, change in {
        "whose member is on another disk": listed("<H", 34, 1),
        "whose list isn't one": listed("<H", 0, 0x5858),
        "whose names are longer than its list": listed("<H", 28, 0xFFFF),
        "whose member is large, and no size": listed("<L", 24, LARGE),
        "whose member is far away, and no place": listed("<L", 42, LARGE),
        "that lists fewer members than it says": ended("<HH", 14, 99, 99),
        "that lists more members than it says": ended("<HH", 14, 1, 1),
        "that says it lists nothing": ended("<HH", 14, 0, 0),
    }.items():
        yield _case(words, Flaw.MALFORMED_ARCHIVE, change)


def _of_the_end() -> Iterator[Case]:
    for words, change in {
        "of several": ended("<H", 18, 1),
        "that is the first of several": ended("<H", 16, 1),
        "with two counts": ended("<H", 14, 3),
        "whose list is elsewhere": ended("<L", 6, 4),
        "whose list is longer": ended("<L", 10, 1 << 20),
        "with bytes before its end": lambda data: data.__setitem__(slice(-22, -22), b"hidden"),
        "with bytes behind its end": lambda data: data.extend(b"x"),
        "with a comment": lambda data: data.__setitem__(slice(-2, None), b"\x03\x00abc"),
        "that is said to have a comment": ended("<H", 2, 1),
        "cut by a byte": lambda data: data.__delitem__(slice(-1, None)),
        "cut short": lambda data: data.__delitem__(slice(10, None)),
        "of nothing": lambda data: data.clear(),
        "whose end isn't marked": ended("<L", 22, 0),
        "of text": lambda data: data.__setitem__(slice(None), b"hello" * 99),
    }.items():
        yield _case(words, Flaw.MALFORMED_ARCHIVE, change)
    yield _case("with an endless list", Flaw.ENDLESS_ARCHIVE, ended("<L", 10, (32 << 20) + 1))


def _large(draft: Draft) -> None:
    """As it is written from 4 GiB on, with little in it."""

    def edit(data: bytes) -> bytes:
        its, archive = io.BytesIO(), zipfile.ZipFile(io.BytesIO(data))
        with pytest.MonkeyPatch.context() as patch, zipfile.ZipFile(its, "w", zipfile.ZIP_STORED) as file:
            patch.setattr(zipfile, "ZIP64_LIMIT", 10)
            for name in archive.namelist():
                file.writestr(zipfile.ZipInfo(name), archive.read(name))
            file.close()
        return its.getvalue()

    draft.edit("archive", edit)


def _large_as_it_says(draft: Draft) -> None:
    _large(draft)
    patched(ended("<L", 6, LARGE))(draft)


def _behind_the_large_end(data: bytearray) -> None:
    data[-42:-42] = b"hidden"
    at = len(data) - 42
    assert data[at : at + 4] == b"PK\x06\x07"


def _nothing_but_an_end(data: bytearray) -> None:
    del data[:-22]
    struct.pack_into("<L", data, 16, LARGE)


def _of_large_ones() -> Iterator[Case]:
    """The locator lies 42 bytes before the end, and what it locates 98."""
    for words, change in {
        "whose end isn't there": ended("<L", 42, 0),
        "whose end is on another disk": ended("<L", 38, 1),
        "whose end is elsewhere": ended("<Q", 34, 5),
        "of several": ended("<L", 26, 2),
        "whose end is none": ended("<L", 98, 0),
        "whose end has another size": ended("<Q", 94, 99),
        "whose end is of another disk": ended("<L", 82, 1),
        "whose list is on another disk": ended("<L", 78, 1),
        "with two counts": ended("<Q", 74, 3),
        "whose list is longer": ended("<Q", 58, 1 << 21),
        "whose list is elsewhere": ended("<Q", 50, 7),
        "whose list is far away": ended("<Q", 50, 1 << 63),
    }.items():
        yield _case(f"in its large form {words}", Flaw.MALFORMED_ARCHIVE, change, _large)
    yield _case("in its large form with bytes behind that", Flaw.MALFORMED_ARCHIVE, _behind_the_large_end, _large)
    yield _case("that says it is large, and has no place for it", Flaw.MALFORMED_ARCHIVE, _nothing_but_an_end)
    yield _case("that says it is large, and not where", Flaw.MALFORMED_ARCHIVE, ended("<L", 42, 0), _large_as_it_says)
    yield _case("in its large form of too many", Flaw.ENDLESS_ARCHIVE, ended("<QQ", 74, 100_001, 100_001), _large)
    yield _case("in its large form with an endless list", Flaw.ENDLESS_ARCHIVE, ended("<Q", 58, 1 << 62), _large)
    yield _case("that says that it is large, and isn't", Flaw.MALFORMED_ARCHIVE, ended("<L", 6, LARGE))
    yield _case("that says that it has many, and hasn't", Flaw.MALFORMED_ARCHIVE, ended("<HH", 14, 0xFFFF, 0xFFFF))


def _of_headers() -> Iterator[Case]:
    for words, change in {
        "has another name in its header": lambda data: data.__setitem__(
            slice(_header_of(data, STAMP) + 30, _header_of(data, STAMP) + 31), b"X"
        ),
        "is compressed in its header": headed("<H", 8, 8),
        "is encrypted in its header": headed("<H", 6, 1),
        "has no header": headed("<L", 0, 0),
        "has a longer name in its header": headed("<H", 26, 200),
        "has a name in its header beyond all that there is": headed("<H", 26, 0xFFFF),
    }.items():
        yield _case(f"whose timestamp {words}", Flaw.MALFORMED_ARCHIVE, change)
    yield _case("whose timestamp's header reaches over", Flaw.MEMBERS_OVERLAP, headed("<H", 28, 60_000))
    yield _case("whose timestamp is flipped", Flaw.NOT_METADATA, lambda data: _flip(data, STAMP))


def _flip(data: bytearray, name: str) -> None:
    data[data.index(name.encode()) + len(name)] ^= 1


# --- folders ----------------------------------------------------------------------------------------


def _of_folders() -> Iterator[Case]:
    targets = "director/vehicles/car-1/6.targets.json"
    for words, name, change in (
        ("a link to another file", targets, _linked),
        ("a link to nothing", targets, lambda path: _replaced(path, lambda: path.symlink_to("nowhere"))),
        ("a pipe", targets, lambda path: _replaced(path, lambda: os.mkfifo(path))),
        ("a folder", targets, lambda path: _replaced(path, path.mkdir)),
        ("a link, for a manifest", "image/targets/model", _linked),
        ("a link, for the files", "image/files", _linked),
        ("a link, for the vehicles", "director/vehicles", _linked),
        ("a file, for a folder", "image/files", lambda path: _replaced(path, path.touch)),
    ):
        told = "plain file" if words == "a pipe" else ""
        yield _in_folder(f"with {words}", FetchError, _at(name, change), told)
    yield _in_folder("without its targets", FetchError, _at(targets, lambda path: path.unlink()))
    yield _in_folder("that is a link", NotThere, _whole_as_a_link)
    yield Case("archive that is a link", NotThere, lambda draft: draft.edit(
        "medium", lambda at: _linked(at / ZIP_NAME)
    ), way=Way.ZIP)  # fmt: skip


def _in_folder(defect: str, expected: type[OtaError], act: Act, words: str = "") -> Case:
    return Case(f"folder {defect}", expected, act, way=Way.FOLDER, words=words)


def _at(name: str, change: Callable[[Path], object]) -> Act:
    return lambda draft: draft.edit("medium", lambda at: change(at / MEDIUM_NAME / name) and None)


def _linked(path: Path) -> None:
    moved = path.parent / "moved"
    path.rename(moved)
    path.symlink_to(moved.name)


def _replaced(path: Path, make: Callable[[], object]) -> None:
    path.rename(path.parent / "moved")
    make()


def _whole_as_a_link(draft: Draft) -> None:
    draft.edit("medium", lambda at: _linked(at / MEDIUM_NAME))
