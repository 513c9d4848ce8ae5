"""A bundle over 4 GiB, whole and as a delta: no offset, size or sum is kept in 32 bits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecu.disk import RealDisk
from ota.delta import HEADER, Codec, Ends, Run, decode_index, encode_head, index_bytes
from ota.errors import NotThere
from ota.fetch import fetch_bundle, seal_bundle
from ota.kinds import Kind
from ota.layout import delta_path, file_path
from ota.manifest import BLOCK_BYTES, BundleManifest, FileEntry, block_count, encode_manifest
from ota.repository.deltamaker import make
from ota.slots import BootRecord, Slot, Slots
from ota.source import PART_BYTES
from tests.ota.changed import Open
from tests.ota.differing import unwatched

OVER_4_GIB = (4 << 30) + 3 * BLOCK_BYTES + 11
_ZEROS = bytes(BLOCK_BYTES)


class Sparse(RealDisk):
    """Zeros at a file's end are a hole."""

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        if data == _ZEROS[: len(data)] and offset >= self.size(path):
            self.truncate(path, offset + len(data))
        else:
            super().write_at(path, offset, data)


class Tail:
    """`size` bytes: zeros, but for the last of them."""

    def __init__(self, size: int, tail: bytes) -> None:
        self.size = size
        self.tail = tail

    def read(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        start = self.size - len(self.tail)
        if offset + length <= start:
            return _ZEROS[:length] if length <= BLOCK_BYTES else bytes(length)
        zeros = bytes(max(0, start - offset))
        return zeros + self.tail[max(0, offset - start) :][: length - len(zeros)]

    def entry(self) -> FileEntry:
        whole, blocks, known = hashlib.sha256(), list[str](), hashlib.sha256(_ZEROS).hexdigest()
        for index in range(block_count(self.size)):
            data = self.read(index * BLOCK_BYTES, BLOCK_BYTES)
            whole.update(data)
            blocks.append(known if data is _ZEROS or data == _ZEROS else hashlib.sha256(data).hexdigest())
        return FileEntry(path="large.bin", size=self.size, sha256=whole.hexdigest(), blocks=tuple(blocks))


class Large(Open):
    def __init__(self, files: dict[str, Tail], delta: tuple[str, bytes] | None = None) -> None:
        self.files = files
        self.delta = delta

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        if self.delta is not None and path == self.delta[0]:
            yield self.delta[1][offset : offset + most]
        elif path in self.files:
            file = self.files[path]
            end = min(file.size, offset + most)
            for at in range(offset, end, PART_BYTES):
                yield file.read(at, min(PART_BYTES, end - at))
        else:
            raise NotThere(path)


def manifest_of(entry: FileEntry, release: int) -> BundleManifest:
    return BundleManifest(
        kind=Kind.MODEL, name="large", version=f"{release}.0", release=release, hardware=("any",), files=(entry,)
    )


def test_a_run_beyond_4_gib_is_read_where_it_lies() -> None:
    ends = Ends("0" * 64, 10, "1" * 64, OVER_4_GIB)
    data = encode_head(ends, [(Codec.SAME, (Run(OVER_4_GIB - 10, 10),), 0)])
    assert index_bytes(data, ends) == len(data) - HEADER.size
    (block,) = decode_index(data[HEADER.size :], ends)
    assert block.runs == (Run(OVER_4_GIB - 10, 10),)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_bundle_over_4_gib_is_installed_and_updated_by_its_difference(tmp_path: Path) -> None:
    one, two = Tail(OVER_4_GIB, b"release 1" * 7), Tail(OVER_4_GIB, b"release 2" * 7)
    entries = one.entry(), two.entry()
    disk = Sparse(tmp_path)
    slots = Slots(disk, Kind.MODEL)
    slots.empty(Slot.A)
    first = manifest_of(entries[0], 1)
    fetch_bundle(Large({file_path(entries[0].sha256): one}), first, slots, Slot.A, unwatched)
    installed = seal_bundle(encode_manifest(first), slots, Slot.A)
    slots.write(BootRecord(good=Slot.A, slots={Slot.A: installed}))

    bodies = list[bytes]()
    ends = Ends(entries[1].sha256, OVER_4_GIB, entries[0].sha256, OVER_4_GIB)
    head = make(one.read, two.read, ends, bodies.append, lambda size: None)
    assert head is not None
    source = Large({}, (delta_path(ends.new_sha256, ends.old_sha256), head + b"".join(bodies)))
    slots.empty(Slot.B)
    second = manifest_of(entries[1], 2)
    # The last two blocks differ: what is there of a shorter file than the least isn't asked for as a delta.
    with pytest.raises(NotThere):
        fetch_bundle(Large({}), second, slots, Slot.B, unwatched)
    came = fetch_bundle(source, second, slots, Slot.B, unwatched)
    assert came.unfit == 0
    assert came.kept + came.by_delta == OVER_4_GIB
    seal_bundle(encode_manifest(second), slots, Slot.B)
