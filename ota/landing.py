"""Blocks on their way into a slot: written as they come, and brought to flash while the next ones are awaited.

One sync is under way at a time and takes along all that was written before it began. A slow link so has every block on
flash before the next one is there; a fast one doesn't wait for flash, until so much waits that it has to. Nothing here
makes a block believed: whoever goes on after a cut asks each for its hash, and a slot is named only after all of it was
synced and read back (ota/slots.py).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeVar

from ota.manifest import FileEntry
from ota.slots import Slot, Slots

MOST_UNSYNCED: Final = 16
"""Blocks that wait while others are on their way to flash: where the link is faster, a power cut may take both."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of a bundle: all of them, those that this vehicle had already, those that came by now, and of these what
    deltas made out of `delta_bytes`. `unfit` counts blocks and deltas that weren't right, and `words` tell of the
    last."""

    whole: int
    kept: int
    fetched: int
    by_delta: int = 0
    delta_bytes: int = 0
    unfit: int = 0
    words: str = ""


Watch = Callable[[Progress], None]
"""Told after every block; raises to stop the download where it is."""


class InTurn(Executor):
    """Does what it is given at once: each block is durable before the next is asked for."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future = Future[R]()
        future.set_result(fn(*args, **kwargs))
        return future


class Landing:
    """As a context: after it all blocks are durable, or it raises DiskError. `syncs` runs one thing at a time."""

    def __init__(self, slots: Slots, slot: Slot, progress: Progress, watch: Watch, syncs: Executor) -> None:
        self.progress = progress
        self._slots = slots
        self._slot = slot
        self._watch = watch
        self._syncs = syncs
        self._unsynced = dict[str, FileEntry]()
        self._written = 0
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.settle()
        elif self._under_way is not None:
            # What it was stopped for is told, not what became of the last sync: that slot isn't named.
            self._under_way.exception()

    def keep(self, entry: FileEntry, index: int, data: bytes) -> None:
        """One that this vehicle had elsewhere."""
        self._put(entry, index, data)
        self._tell(replace(self.progress, kept=self.progress.kept + len(data)))

    def fetched(self, entry: FileEntry, index: int, data: bytes) -> None:
        self._put(entry, index, data)
        self._tell(replace(self.progress, fetched=self.progress.fetched + len(data)))

    def made(self, entry: FileEntry, index: int, data: bytes) -> None:
        """By a delta."""
        self._put(entry, index, data)
        now = self.progress
        self._tell(replace(now, fetched=now.fetched + len(data), by_delta=now.by_delta + len(data)))

    def spent(self, delta_bytes: int) -> None:
        """So many more bytes of a delta came."""
        self.progress = replace(self.progress, delta_bytes=self.progress.delta_bytes + delta_bytes)

    def unfit(self, words: str) -> None:
        self.progress = replace(self.progress, unfit=self.progress.unfit + 1, words=words)

    def settle(self) -> None:
        """All that came is durable."""
        while self._unsynced or self._under_way is not None:
            self._begin_sync()

    def _tell(self, progress: Progress) -> None:
        self.progress = progress
        self._watch(progress)

    def _put(self, entry: FileEntry, index: int, data: bytes) -> None:
        self._slots.put_block(self._slot, entry, index, data)
        self._unsynced[entry.path] = entry
        self._written += 1
        if self._under_way is None or self._under_way.done() or self._written >= MOST_UNSYNCED:
            self._begin_sync()

    def _begin_sync(self) -> None:
        """Of all that is written by now, after the one before."""
        if self._under_way is not None:
            self._under_way.result()
            self._under_way = None
        if self._unsynced:
            entries, self._unsynced, self._written = list(self._unsynced.values()), {}, 0
            self._under_way = self._syncs.submit(self._sync, entries)

    def _sync(self, entries: list[FileEntry]) -> None:
        for entry in entries:
            self._slots.sync_blocks(self._slot, entry)
