"""A bundle's bytes from a source into a slot: block by block, verified before they are written, resumed where cut.

What lies in the slot is believed by its hash alone, so a download that a cut link, a kill or a power cut ended goes on
at the first block that isn't right; so do blocks that an older release left there and the new one has, too. What the
good slot holds is copied, and what differs little from a file of it comes as a delta where there is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import groupby
from typing import Final

from ecu.disk import UNREADABLE, DiskFull
from ota.deltafetch import Breaks, DeltaFetch, Old
from ota.errors import FetchError, Flaw, NoRoomForUpdate, TrustError
from ota.landing import InTurn, Landing, Progress, Watch
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


Block = tuple[FileEntry, int]
"""A file's entry and the index of one of its blocks."""


def fetch_manifest(source: Source, offer: Offer) -> bytes:
    """The offer's manifest, verified against what both repositories signed. Raises TrustError, FetchError."""
    if offer.length > MAX_MANIFEST_BYTES:
        raise TrustError(
            Flaw.ENDLESS_MANIFEST, f"{offer.target} has {offer.length} bytes, more than {MAX_MANIFEST_BYTES}"
        )
    data = b"".join(_up_to_its_length(source, offer))
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


def _up_to_its_length(source: Source, offer: Offer) -> Iterator[bytes]:
    left = offer.length
    for part in source.read(target_path(offer.target, offer.sha256), 0, left):
        left -= len(part)
        if left < 0:
            raise TrustError(Flaw.ENDLESS_MANIFEST, f"{offer.target} goes on beyond its {offer.length} bytes")
        yield part


def fetch_bundle(
    source: Source,
    manifest: BundleManifest,
    slots: Slots,
    slot: Slot,
    watch: Watch,
    syncs: Executor | None = None,
    breaks: Breaks | None = None,
) -> Progress:
    """Brings every missing block into the emptied slot, durably: from the good slot where it lies there, made by a
    delta from one of its files, or as it is. Raises TrustError, FetchError, NoRoomForUpdate, and whatever `watch`
    raises; what came before stays.

    `syncs` brings blocks to flash while the next ones come, or each in turn; `breaks` remembers deltas that broke off.
    """
    missing = [block for block in manifest.blocks() if not slots.has_block(slot, *block)]
    kept = manifest.size - sum(entry.block_bytes(index) for entry, index in missing)
    landing = Landing(slots, slot, Progress(manifest.size, kept, 0), watch, syncs or InTurn())
    try:
        with landing:
            missing = _not_in_the_good_slot(missing, slots, landing)
            missing = _not_by_deltas(missing, source, slots, landing, breaks if breaks is not None else Breaks())
            for entry, first, count in _runs(missing):
                for index, data in _blocks(source, entry, first, count):
                    landing.fetched(entry, index, data)
    except DiskFull as error:
        slots.give_back(slot)
        its = landing.progress
        raise NoRoomForUpdate(
            f"{manifest.title} has {manifest.size} bytes and the disk was full after {its.kept + its.fetched}: {error} "
            "What was fetched is removed again; the installed release goes on."
        ) from error
    return landing.progress


def _not_in_the_good_slot(missing: Sequence[Block], slots: Slots, landing: Landing) -> list[Block]:
    """What the vehicle runs already needn't come again: a copy, since one bad sector of flash must not take both."""
    good, left = slots.record.good, list[Block]()
    held = slots.manifest(good) if missing else None
    places = {sha256: (old, at) for old in (held.files if held else ()) for at, sha256 in enumerate(old.blocks)}
    for entry, index in missing:
        data = _still_there(slots, good, places.get(entry.blocks[index]))
        if data is None:
            left.append((entry, index))
        else:
            landing.keep(entry, index, data)
    return left


def _still_there(slots: Slots, slot: Slot, place: Block | None) -> bytes | None:
    """A block, as it was installed; None where it isn't any more."""
    if place is None:
        return None
    try:
        data = slots.block(slot, *place)
    except UNREADABLE:
        return None
    entry, index = place
    return data if hashlib.sha256(data).hexdigest() == entry.blocks[index] else None


def _not_by_deltas(
    missing: Sequence[Block], source: Source, slots: Slots, landing: Landing, breaks: Breaks
) -> list[Block]:
    good = slots.record.good
    held = slots.manifest(good) if missing else None
    olds = {old.path: old for old in held.files} if held else {}
    left = list[Block]()
    for _, group in groupby(missing, key=lambda block: block[0].path):
        blocks = list(group)
        entry, indexes = blocks[0][0], [index for _, index in blocks]
        if (old := olds.get(entry.path)) is not None:
            its = Old(old.sha256, old.size, partial(slots.part, good, old))
            indexes = DeltaFetch(source, entry, its, landing, breaks).fetch(indexes)
        left += [(entry, index) for index in indexes]
    return left


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


def _runs(missing: Sequence[Block]) -> Iterator[tuple[FileEntry, int, int]]:
    """(entry, first block, how many): each is asked for at once."""
    for _, group in groupby(enumerate(missing), key=lambda at: (at[1][0].path, at[1][1] - at[0])):
        run = [block for _, block in group]
        yield run[0][0], run[0][1], len(run)


def _blocks(source: Source, entry: FileEntry, first: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Verified blocks. Raises TrustError for one that isn't what was signed, FetchError when they end early."""
    begin = first * BLOCK_BYTES
    end = min(entry.size, (first + count) * BLOCK_BYTES)
    waiting, have, index = list[bytes](), 0, first
    for part in source.read(file_path(entry.sha256), begin, end - begin):
        waiting.append(part)
        have += len(part)
        if have > _MOST_WAITING:
            raise TrustError(Flaw.ENDLESS_FILE, f"{entry.path} goes on beyond what was asked for")
        while index < first + count and have >= entry.block_bytes(index):
            size = entry.block_bytes(index)
            came = b"".join(waiting)
            block, rest = (came, b"") if have == size else (came[:size], came[size:])
            waiting, have = [rest], len(rest)
            if hashlib.sha256(block).hexdigest() != entry.blocks[index]:
                raise TrustError(Flaw.CHANGED_BLOCK, f"block {index} of {entry.path} isn't what was signed")
            yield index, block
            index += 1
    if index < first + count:
        raise FetchError(f"{entry.path} ended within block {index} of {len(entry.blocks)}. It goes on there next time.")
