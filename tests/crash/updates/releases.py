"""Releases that a vehicle's lives are made of, and where they lie: with nothing but themselves, or signed
(tests/crash/updates/signed.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Protocol

from ecu.clock import SECOND_NS
from ota.deltafetch import LEAST_BYTES
from ota.errors import NotThere
from ota.kinds import Kind
from ota.layout import file_path, target_path
from ota.manifest import BLOCK_BYTES, BundleManifest, bundle_digest, encode_manifest, file_entry
from ota.source import PART_BYTES, Source
from ota.trust import Offer, Roots
from ota.updates import Updates
from tests.ota.changed import Changed, Cut, Open
from tests.ota.differing import delta

RELEASES = range(1, 10)
SMALL_BYTES = 600
WORTH_A_DELTA_BYTES = LEAST_BYTES + 700
"""Of a model that a vehicle asks a delta for."""
TWO_BLOCKS_BYTES = BLOCK_BYTES + WORTH_A_DELTA_BYTES
ALL = 1 << 40
"""More bytes than any link is asked for."""


@cache
def contents(kind: Kind, release: int, model_bytes: int = SMALL_BYTES) -> Mapping[str, bytes]:
    """Two files that differ from release to release, one that doesn't, and an empty one. A runtime's lie in folders,
    which come and go: one is a file in every third release."""
    files = {
        "empty": b"",
        "labels": b"car\n" * 50,
        "model.json": f"release {release}".encode() * 60,
        "model.onnx": _model(release, model_bytes),
    }
    if kind is not Kind.RUNTIME:
        return files
    tree = {f"agent/{name}" if release % 2 else f"agent/inner/{name}": data for name, data in files.items()}
    return tree | ({"part": b"a file"} if release % 3 == 0 else {"part/file": b"in a folder"})


@cache
def _model(release: int, size: int) -> bytes:
    """Bytes that nothing but those of another release make smaller."""
    weights = Random(1).randbytes(size)
    return weights.translate(bytes((byte + release) % 256 for byte in range(256)))


def _cut(content: bytes) -> Iterator[bytes]:
    return (content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES))


@cache
def manifest_of(kind: Kind, release: int, model_bytes: int = SMALL_BYTES) -> BundleManifest:
    """Below release 3 nothing boots once 3 was kept."""
    its = sorted(contents(kind, release, model_bytes).items())
    return BundleManifest(
        kind=kind,
        name="drive",
        version=f"{release}.0",
        release=release,
        hardware=("any",),
        files=tuple(file_entry(name, _cut(data)) for name, data in its),
        minimum_bootable=3 if release == 3 else None,
    )


@cache
def digests_of(kind: Kind, model_bytes: int = SMALL_BYTES) -> Mapping[int, str]:
    """Of all releases, by their numbers."""
    return {release: bundle_digest(encode_manifest(manifest_of(kind, release, model_bytes))) for release in RELEASES}


def offer_of(kind: Kind, release: int, model_bytes: int = SMALL_BYTES) -> Offer:
    data = encode_manifest(manifest_of(kind, release, model_bytes))
    return Offer(
        kind, manifest_of(kind, release, model_bytes).target, release, len(data), bundle_digest(data), ("any",)
    )


# --- where they lie ---------------------------------------------------------------------------------


class Shelf(Open):
    """All releases of the kind, and the delta of each model from each."""

    def __init__(self, kind: Kind, model_bytes: int = SMALL_BYTES) -> None:
        self._files = dict[str, bytes]()
        self._models = {hashlib.sha256(model).hexdigest(): model for model in models(model_bytes).values()}
        for release in RELEASES:
            manifest = encode_manifest(manifest_of(kind, release, model_bytes))
            self._files[offered_path(kind, release, model_bytes)] = manifest
            for data in contents(kind, release, model_bytes).values():
                self._files[file_path(hashlib.sha256(data).hexdigest())] = data

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        its = self._delta(path) if path.startswith("deltas/") else self._files.get(path)
        if its is None:
            raise NotThere(path)
        data = its[offset : offset + most]
        yield from (data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES))

    def _delta(self, path: str) -> bytes | None:
        new, _, old = path.removeprefix("deltas/").partition(".")
        return delta(self._models[old], self._models[new]) if {new, old} <= set(self._models) else None


def models(model_bytes: int) -> Mapping[int, bytes]:
    return {release: _model(release, model_bytes) for release in RELEASES}


def offered_path(kind: Kind, release: int, model_bytes: int = SMALL_BYTES) -> str:
    return target_path(manifest_of(kind, release, model_bytes).target, digests_of(kind, model_bytes)[release])


class Supply(Protocol):
    """What a life's releases come from. `model_bytes` is how large their models are."""

    @property
    def model_bytes(self) -> int: ...

    @property
    def roots(self) -> Roots: ...

    @property
    def wall_ns(self) -> int: ...

    @property
    def is_signed(self) -> bool:
        """Whether a look comes before each installation."""
        ...

    def found(self, updates: Updates, kind: Kind, release: int, most: int) -> tuple[Source, Offer]:
        """The release, on a link that is cut after so many bytes of files and deltas."""
        ...

    def before(self, signed_at_s: int) -> tuple[int, ...]:
        """The releases that were signed before that, oldest first."""
        ...


_NO_ROOTS = Roots(b"", b"")
_SHELF = cache(Shelf)


@dataclass(frozen=True)
class Unsigned:
    """Found without a look: what is offered is believed. The deltas to the `spoiled` releases end in a wrong byte."""

    model_bytes: int = SMALL_BYTES
    spoiled: frozenset[int] = frozenset()
    roots: Roots = _NO_ROOTS
    wall_ns: int = SECOND_NS
    is_signed: bool = False

    def found(self, updates: Updates, kind: Kind, release: int, most: int) -> tuple[Source, Offer]:
        its: Source = _SHELF(kind, self.model_bytes)
        if release in self.spoiled:
            its = Changed(its, _spoiled)
        return Cut(its, most), offer_of(kind, release, self.model_bytes)

    def before(self, signed_at_s: int) -> tuple[int, ...]:
        return ()


def _spoiled(path: str, data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1]) if path.startswith("deltas/") else data


UNSIGNED: Supply = Unsigned()
