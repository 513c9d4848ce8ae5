"""Two releases of which the second was fine-tuned from the first, and everything between a source and a slot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache

from ecu.disk import Disk
from ota.delta import Ends
from ota.errors import NotThere
from ota.kinds import Kind
from ota.landing import Progress
from ota.layout import delta_path, file_path
from ota.manifest import BLOCK_BYTES, BundleManifest, encode_manifest, file_entry
from ota.repository.deltamaker import make
from ota.slots import BootRecord, Slot, Slots
from ota.source import PART_BYTES
from tests.ota.changed import Open
from tests.ota.weights import fine_tuned, weights

SIZE = 2 * BLOCK_BYTES + 14_321


@cache
def contents(release: int) -> Mapping[str, bytes]:
    """Release 1, and 2: the same labels, other weights."""
    model = weights(SIZE, seed=1) if release == 1 else fine_tuned(SIZE, seed=1, sigma=0.005)
    return {"labels.txt": b"car\nlorry\n" * 9_000, "model.onnx": model}


def cut(content: bytes) -> Iterator[bytes]:
    return (content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES))


@cache
def manifest_of(release: int) -> BundleManifest:
    files = tuple(file_entry(name, cut(content)) for name, content in sorted(contents(release).items()))
    return BundleManifest(
        kind=Kind.MODEL, name="drive", version=f"{release}.0", release=release, hardware=("any",), files=files
    )


@cache
def the_delta() -> bytes:
    """Of the model."""
    return delta(contents(1)["model.onnx"], contents(2)["model.onnx"])


@cache
def delta(old: bytes, new: bytes) -> bytes:
    bodies = list[bytes]()
    ends = Ends(hashlib.sha256(new).hexdigest(), len(new), hashlib.sha256(old).hexdigest(), len(old))
    head = make(
        lambda at, size: old[at : at + size],
        lambda at, size: new[at : at + size],
        ends,
        bodies.append,
        lambda size: None,
    )
    assert head is not None
    return head + b"".join(bodies)


def the_path() -> str:
    return delta_path(*(manifest_of(release).files[1].sha256 for release in (2, 1)))


class Shop(Open):
    """Has release 2, and `delta` where there is one; counts what it gave by the first part of the path."""

    def __init__(self, delta: bytes | None = None) -> None:
        self._files = {file_path(hashlib.sha256(content).hexdigest()): content for content in contents(2).values()}
        if delta is not None:
            self._files[the_path()] = delta
        self.given = {"files": 0, "deltas": 0}
        self.asked: list[str] = []

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        self.asked.append(path)
        if path not in self._files:
            raise NotThere(f"There is no {path}.")
        content = self._files[path][offset : offset + most]
        for at in range(0, len(content), PART_BYTES):
            part = content[at : at + PART_BYTES]
            self.given[path.partition("/")[0]] += len(part)
            yield part


def with_release_1(disk: Disk) -> Slots:
    """Good in slot a; b is emptied."""
    slots = Slots(disk, Kind.MODEL)
    slots.empty(Slot.A)
    for entry in manifest_of(1).files:
        for index, block in enumerate(cut(contents(1)[entry.path])):
            slots.put_block(Slot.A, entry, index, block)
    installed = slots.seal(Slot.A, encode_manifest(manifest_of(1)))
    slots.write(BootRecord(good=Slot.A, slots={Slot.A: installed}))
    slots.empty(Slot.B)
    return slots


def unwatched(_: Progress) -> None: ...
