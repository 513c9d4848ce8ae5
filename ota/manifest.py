"""A bundle's manifest: what a release is, and the hash of every block of every file of it.

The manifest is the TUF target, so whoever verified it can verify any block of any file alone: a download may stop
anywhere and go on later, from anybody. Layout and golden vector: docs/formats/bundle.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from ota.errors import Flaw, TrustError
from ota.facts import (
    Budgets,
    FileName,
    Golden,
    Hardware,
    Lineage,
    Metric,
    Name,
    Part,
    Peer,
    Quantization,
    ReleaseNumber,
    Runtime,
    Rxswin,
    Sbom,
    Sha256,
    Text,
    demand_rising,
)
from ota.kinds import Kind

BLOCK_BYTES: Final = 1 << 20
MAX_MANIFEST_BYTES: Final = 4 << 20
MAX_BUNDLE_BYTES: Final = 8 << 30
MAX_FILES: Final = 4096

Version = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){1,2}$")]


class FileEntry(Part):
    """One file of a bundle. `blocks` are the SHA-256 of its 1 MiB blocks in order; the last may be shorter."""

    path: FileName
    size: Annotated[int, Field(ge=0, le=MAX_BUNDLE_BYTES)]
    sha256: Sha256
    blocks: tuple[Sha256, ...]

    @model_validator(mode="after")
    def _is_cut_evenly(self) -> FileEntry:
        if len(self.blocks) != block_count(self.size):
            raise ValueError(f"{self.path} of {self.size} bytes has {len(self.blocks)} blocks")
        return self

    def block_bytes(self, index: int) -> int:
        return min(BLOCK_BYTES, self.size - index * BLOCK_BYTES)


class BundleManifest(Part):
    """A release. `release` only ever grows along its kind's slots: an older version comes back as a newer release.

    Below `minimum_bootable` nothing of its kind may boot any more once this release was kept. Whatever has its default
    isn't written: a release that says little of itself has a small manifest.
    """

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    kind: Annotated[Kind, Field(strict=False)]
    name: Name
    version: Version
    release: ReleaseNumber
    hardware: Annotated[tuple[Hardware, ...], Field(min_length=1, max_length=32)]
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=MAX_FILES)]
    lineage: Lineage = Lineage()
    quantization: Quantization | None = None
    metrics: Annotated[tuple[Metric, ...], Field(max_length=64)] = ()
    golden: Golden | None = None
    runtime: Runtime = Runtime()
    budgets: Budgets = Budgets()
    requires: Annotated[tuple[Peer, ...], Field(max_length=16)] = ()
    conflicts: Annotated[tuple[Peer, ...], Field(max_length=16)] = ()
    sbom: Sbom | None = None
    rxswin: Annotated[tuple[Rxswin, ...], Field(max_length=32)] = ()
    minimum_bootable: ReleaseNumber | None = None
    notes: Text | None = None

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name} {self.version} (release {self.release})"

    @property
    def target(self) -> str:
        return self.kind.target(self.name, self.version)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    @model_validator(mode="after")
    def _holds_together(self) -> BundleManifest:
        if any(a.path >= b.path for a, b in pairwise(self.files)):
            raise ValueError("its files aren't in the order of their names, or one is named twice")
        if self.size > MAX_BUNDLE_BYTES:
            raise ValueError(f"its files have {self.size} bytes, more than {MAX_BUNDLE_BYTES}")
        return self

    @model_validator(mode="after")
    def _has_one_form(self) -> BundleManifest:
        demand_rising("metrics", [metric.name for metric in self.metrics])
        demand_rising("requires", [f"{peer.kind} {peer.name}" for peer in self.requires])
        demand_rising("conflicts", [f"{peer.kind} {peer.name}" for peer in self.conflicts])
        demand_rising("rxswin", self.rxswin)
        return self

    @model_validator(mode="after")
    def _says_what_can_be(self) -> BundleManifest:
        files = {entry.path: entry for entry in self.files}
        if self.golden is not None and self.golden.file not in files:
            raise ValueError(f"its golden file {self.golden.file} isn't one of its files")
        same = files.get(self.sbom.name) if self.sbom is not None else None
        if self.sbom and same and (same.sha256, same.size) != (self.sbom.sha256, self.sbom.size):
            raise ValueError(f"its bill of materials {self.sbom.name} isn't its file of that name")
        if self.minimum_bootable is not None and self.minimum_bootable > self.release:
            raise ValueError(f"below release {self.minimum_bootable} nothing may boot, and it is {self.release}")
        folders = {folder for path in files for folder in parents(path)}
        if folders and self.kind is not Kind.RUNTIME:
            raise ValueError(f"only a runtime has folders, and it has {min(folders)}")
        if clash := folders & set(files):
            raise ValueError(f"{min(clash)} is a file and a folder")
        its = self.runtime
        if self.kind is not Kind.RUNTIME and (its.abi or its.dependencies or its.brings_dependencies):
            raise ValueError(f"only a runtime has an ABI and dependencies, and it is of kind {self.kind}")
        return self

    def blocks(self) -> Iterator[tuple[FileEntry, int]]:
        """Every block, file by file: the entry and the block's index in it."""
        return ((entry, index) for entry in self.files for index in range(len(entry.blocks)))


def parents(path: str) -> Iterator[str]:
    """The folders that a file of a bundle lies in, the innermost first."""
    while path := path.rpartition("/")[0]:
        yield path


def block_count(size: int) -> int:
    return -(-size // BLOCK_BYTES)


def file_entry(path: str, blocks: Iterator[bytes]) -> FileEntry:
    """The entry of a file whose content comes in blocks of 1 MiB, the last one shorter."""
    whole, hashes, size = hashlib.sha256(), [], 0
    for block in blocks:
        whole.update(block)
        hashes.append(hashlib.sha256(block).hexdigest())
        size += len(block)
    return FileEntry(path=path, size=size, sha256=whole.hexdigest(), blocks=tuple(hashes))


def encode_manifest(manifest: BundleManifest) -> bytes:
    """The one way to write it: JSON with sorted keys and no spaces, UTF-8. Its SHA-256 is the bundle's digest."""
    content = manifest.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"schema": manifest.schema_}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode_manifest(data: bytes) -> BundleManifest:
    """Raises TrustError(MALFORMED): signed or not, it is nothing that this version can install."""
    try:
        manifest = BundleManifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise TrustError(Flaw.MALFORMED_MANIFEST, f"the bundle's manifest, at {key}: {first['msg']}") from error
    if encode_manifest(manifest) != data:
        raise TrustError(Flaw.MANIFEST_NOT_CANONICAL, "the bundle's manifest isn't in its canonical form")
    return manifest


def bundle_digest(data: bytes) -> str:
    """SHA-256 (hex) of the manifest's bytes."""
    return hashlib.sha256(data).hexdigest()
