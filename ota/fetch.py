"""A bundle's bytes from a source into a slot: block by block, verified before they are written, resumed where cut.

What lies in the slot is believed by its hash alone, so a download that a cut link, a kill or a power cut ended goes on
at the first block that isn't right; so do blocks that an older release left there and the new one has, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from ecu.disk import DiskFull
from ota.errors import FetchError, Flaw, NoRoomForUpdate, TrustError
from ota.layout import file_path, target_path
from ota.manifest import (
    BLOCK_BYTES,
    MAX_MANIFEST_BYTES,
    BundleManifest,
    FileEntry,
    decode_manifest,
)
from ota.slots import Installed, Slot, SlotDamaged, Slots
from ota.source import Source
from ota.trust import Offer

_MOST_WAITING: Final = 4 * BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of a bundle: all of them, those that lay there already, those fetched by now."""

    whole: int
    kept: int
    fetched: int


Watch = Callable[[Progress], None]
"""Told after every block; raises to stop the download where it is."""


def fetch_manifest(source: Source, offer: Offer) -> bytes:
    """The offer's manifest, verified against what both repositories signed. Raises TrustError, FetchError."""
    if offer.length > MAX_MANIFEST_BYTES:
        raise TrustError(
            Flaw.ENDLESS_MANIFEST, f"{offer.target} has {offer.length} bytes, more than {MAX_MANIFEST_BYTES}"
        )
    data = b"".join(source.read(target_path(offer.target, offer.sha256), 0, offer.length))
    if len(data) < offer.length:
        raise FetchError(f"{offer.target} ended after {len(data)} of {offer.length} bytes. It is tried again.")
    if hashlib.sha256(data).hexdigest() != offer.sha256:
        raise TrustError(Flaw.CHANGED_MANIFEST, f"{offer.target} isn't what was signed")
    manifest = decode_manifest(data)
    if (manifest.target, manifest.release) != (offer.target, offer.release):
        raise TrustError(
            Flaw.OTHER_RELEASES_MANIFEST,
            f"{offer.target} release {offer.release} has the manifest of {manifest.target} release {manifest.release}",
        )
    if manifest.hardware != offer.hardware:
        raise TrustError(
            Flaw.OTHER_HARDWARES_MANIFEST,
            f"{offer.target} was signed for {', '.join(offer.hardware)}, its manifest is for "
            f"{', '.join(manifest.hardware)}",
        )
    return data


def fetch_bundle(source: Source, manifest: BundleManifest, slots: Slots, slot: Slot, watch: Watch) -> Progress:
    """Brings every missing block into the emptied slot. Raises TrustError, FetchError, NoRoomForUpdate, and whatever
    `watch` raises; what came before stays."""
    missing = [block for block in manifest.blocks() if not slots.has_block(slot, *block)]
    fetched, kept = 0, manifest.size - sum(entry.block_bytes(index) for entry, index in missing)
    try:
        for entry, first, count in _runs(missing):
            for index, data in _blocks(source, entry, first, count):
                slots.put_block(slot, entry, index, data)
                fetched += len(data)
                watch(Progress(manifest.size, kept, fetched))
    except DiskFull as error:
        slots.give_back(slot)
        raise NoRoomForUpdate(
            f"{manifest.title} has {manifest.size} bytes and the disk was full after {kept + fetched}: {error} What "
            "was fetched is removed again; the installed release goes on."
        ) from error
    return Progress(manifest.size, kept, fetched)


def seal_bundle(manifest_bytes: bytes, slots: Slots, slot: Slot) -> Installed:
    """Names what was fetched. Raises TrustError for blocks that are all right and make another file than was signed,
    which nobody's fetching again can mend; SlotDamaged when the flash gave them back otherwise."""
    try:
        return slots.seal(slot, manifest_bytes)
    except SlotDamaged as damage:
        manifest = decode_manifest(manifest_bytes)
        if all(slots.has_block(slot, *block) for block in manifest.blocks()):
            raise TrustError(
                Flaw.BLOCKS_OF_ANOTHER_FILE, f"the blocks of {manifest.title} are right and don't make its files"
            ) from damage
        raise


def check_bundle(source: Source, manifest: BundleManifest, watch: Callable[[int], None]) -> None:
    """Every block is there and right, and makes the files that were signed; nothing is kept. `watch` is told the bytes
    of each block. Raises TrustError, FetchError, and whatever `watch` raises."""
    for entry in manifest.files:
        whole = hashlib.sha256()
        for _, data in _blocks(source, entry, 0, len(entry.blocks)):
            whole.update(data)
            watch(len(data))
        if whole.hexdigest() != entry.sha256:
            raise TrustError(Flaw.BLOCKS_OF_ANOTHER_FILE, f"the blocks of {entry.path} are right and make another file")


def _runs(missing: list[tuple[FileEntry, int]]) -> Iterator[tuple[FileEntry, int, int]]:
    """(entry, first block, how many): each is asked for at once."""
    for _, group in groupby(enumerate(missing), key=lambda at: (at[1][0].path, at[1][1] - at[0])):
        run = [block for _, block in group]
        yield run[0][0], run[0][1], len(run)


def _blocks(source: Source, entry: FileEntry, first: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Verified blocks. Raises TrustError for one that isn't what was signed, FetchError when they end early."""
    begin = first * BLOCK_BYTES
    end = min(entry.size, (first + count) * BLOCK_BYTES)
    waiting, index = bytearray(), first
    for part in source.read(file_path(entry.sha256), begin, end - begin):
        waiting += part
        if len(waiting) > _MOST_WAITING:
            raise TrustError(Flaw.ENDLESS_FILE, f"{entry.path} goes on beyond what was asked for")
        while index < first + count and len(waiting) >= entry.block_bytes(index):
            size = entry.block_bytes(index)
            block = bytes(waiting[:size])
            del waiting[:size]
            if hashlib.sha256(block).hexdigest() != entry.blocks[index]:
                raise TrustError(Flaw.CHANGED_BLOCK, f"block {index} of {entry.path} isn't what was signed")
            yield index, block
            index += 1
    if index < first + count:
        raise FetchError(f"{entry.path} ended within block {index} of {len(entry.blocks)}. It goes on there next time.")
