"""Blocks of one file made out of another that this vehicle has, by a delta that its source may hold.

Nothing is fatal here: a delta that isn't there, breaks off too often, or gives a block that isn't what was signed is
left, and these blocks come from the file itself. Its head says where each block's part lies, so that one which was cut
goes on at the block it was cut in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ecu.disk import UNREADABLE
from ota.delta import HEADER, DeltaBlock, DeltaUnfit, Ends, ReadOld, decode_index, index_bytes, made
from ota.errors import FetchError, HeldBack, NotThere, TrustError
from ota.landing import Landing
from ota.layout import delta_path
from ota.manifest import BLOCK_BYTES, FileEntry
from ota.source import Source

LEAST_BYTES: Final = 8 * 1024
"""Of a file that is missing: below that a delta isn't asked for."""
MOST_BREAKS: Final = 2
"""How often a delta may break off before the file is fetched without it. One cut link is nobody's fault, and a source
that always fails just there keeps no release from its place."""
MOST_UNFIT: Final = 8
"""Blocks that aren't what was signed before a delta is given up: what a hostile one may cost."""

_HEAD_GUESS: Final = 4096

Breaks = Counter[str]
"""How often each delta broke off, as long as this process lives."""


@dataclass(frozen=True, slots=True)
class Old:
    """A whole file that this vehicle has."""

    sha256: str
    size: int
    read: ReadOld


class DeltaFetch:
    """One file's."""

    def __init__(self, source: Source, entry: FileEntry, old: Old, landing: Landing, breaks: Breaks) -> None:
        self._source = source
        self._entry = entry
        self._old = old
        self._landing = landing
        self._breaks = breaks
        self._path = delta_path(entry.sha256, old.sha256)

    def fetch(self, indexes: Sequence[int]) -> list[int]:
        """Brings what it can of these blocks; those that are still missing. Raises FetchError for a link that broke,
        HeldBack, DiskError, and whatever the watch raises."""
        left = dict.fromkeys(indexes)
        if self._breaks[self._path] >= MOST_BREAKS or sum(map(self._entry.block_bytes, left)) < LEAST_BYTES:
            return list(left)
        try:
            for index in self._landed(indexes):
                del left[index]
        except DeltaUnfit as unfit:
            self._give_up(str(unfit))
        except NotThere:
            pass  # one may be made yet, before the next look
        except HeldBack:
            raise
        except FetchError:
            self._breaks[self._path] += 1
            raise
        return list(left)

    def _landed(self, indexes: Sequence[int]) -> Iterator[int]:
        """Those that were right. Raises DeltaUnfit when the delta is of no more use."""
        blocks, unfit = self._head(), 0
        for index, body in self._bodies(indexes, blocks):
            try:
                data = self._made(index, blocks[index], body)
            except DeltaUnfit as wrong:
                if (unfit := unfit + 1) >= MOST_UNFIT:
                    raise
                self._landing.unfit(f"{self._path}: {wrong}")
            else:
                self._landing.made(self._entry, index, data)
                yield index

    def _made(self, index: int, block: DeltaBlock, body: bytes) -> bytes:
        """What was signed. Raises DeltaUnfit for anything else."""
        try:
            data = made(block, body, self._old.read)
        except UNREADABLE as error:
            raise DeltaUnfit(f"What block {index} is made of can't be read. {error}") from error
        if hashlib.sha256(data).hexdigest() != self._entry.blocks[index]:
            raise DeltaUnfit(f"Block {index} of {self._entry.path} isn't what was signed.")
        return data

    def _give_up(self, words: str) -> None:
        self._landing.unfit(f"{self._path}: {words}")
        self._breaks[self._path] = MOST_BREAKS

    # --- the delta's bytes ------------------------------------------------------------------------

    def _head(self) -> tuple[DeltaBlock, ...]:
        ends = Ends(self._entry.sha256, self._entry.size, self._old.sha256, self._old.size)
        begin = b"".join(self._read(0, _HEAD_GUESS))
        size = HEADER.size + index_bytes(begin, ends)
        if len(begin) < size:
            begin += b"".join(self._read(len(begin), size - len(begin)))
        return decode_index(begin[HEADER.size : size], ends)

    def _bodies(self, indexes: Sequence[int], blocks: Sequence[DeltaBlock]) -> Iterator[tuple[int, bytes]]:
        """Bodies of neighbours are asked for at once, and held one at a time. Raises DeltaUnfit when they end early."""
        for run in _neighbours(indexes):
            its = [blocks[index] for index in run]
            parts = self._read(its[0].at, sum(block.body_bytes for block in its))
            waiting = bytearray()
            for index, block in zip(run, its, strict=True):
                while len(waiting) < block.body_bytes:
                    part = next(parts, b"")
                    if not part:
                        raise DeltaUnfit(f"The delta ends within the body of block {index}.")
                    waiting += part
                body = bytes(waiting[: block.body_bytes])
                del waiting[: block.body_bytes]
                yield index, body

    def _read(self, offset: int, most: int) -> Iterator[bytes]:
        """Raises DeltaUnfit when more comes than was asked for, or the medium it lies on is refused there."""
        try:
            for part in self._source.read(self._path, offset, most) if most else ():
                self._landing.spent(len(part))
                most -= len(part)
                if most < 0 or len(part) > BLOCK_BYTES:
                    raise DeltaUnfit("The delta goes on beyond what was asked for.")
                if part:
                    yield part
        except TrustError as error:
            raise DeltaUnfit(str(error)) from error


def _neighbours(indexes: Sequence[int]) -> Iterator[list[int]]:
    run = list[int]()
    for index in indexes:
        if run and index != run[-1] + 1:
            yield run
            run = []
        run.append(index)
    if run:
        yield run
