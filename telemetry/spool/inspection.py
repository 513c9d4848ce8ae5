"""A look at a vehicle's spool from outside, the agent running or not: what the next start would find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ecu.clock import SECOND_NS, Clock
from ecu.disk import Disk, RealDisk
from ecu.errors import UsageFault
from ecu.keys import FileKeyStore
from ecu.ledger import Ledger
from telemetry.records import Lane
from telemetry.spool.blocks import BlockRef
from telemetry.spool.books import Books
from telemetry.spool.counts import LaneCounts, MemoryCounters, SpoolCounts, Totals
from telemetry.spool.format import frame_pages
from telemetry.spool.limits import PAGE_BYTES, SpoolLimits
from telemetry.spool.spool import Spool
from telemetry.wire import BadBlock

SPOOL_FOLDER: Final = "spool"
KEYS_FOLDER: Final = "keys"
LEDGER_FILE: Final = "spool.ledger"

# A look at a running agent can fall between two of its writes; damage is what every look sees.
_LOOKS: Final = 20


class Untouched:
    """A Disk that is only read: writes are taken and forgotten."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.exists, self.is_folder, self.names, self.size = disk.exists, disk.is_folder, disk.names, disk.size
        self.read, self.read_at = disk.read, disk.read_at

    def make_folder(self, path: str) -> None: ...

    def create(self, path: str, size: int = 0) -> None: ...

    def write_at(self, path: str, offset: int, data: bytes) -> None: ...

    def truncate(self, path: str, size: int) -> None: ...

    def sync(self, path: str) -> None: ...

    def forget(self, path: str) -> None: ...

    def sync_folder(self, folder: str) -> None: ...

    def rename(self, old: str, new: str) -> None: ...

    def remove(self, path: str) -> None: ...


@dataclass(frozen=True, slots=True)
class LaneView:
    """One lane as it lies on flash. `oldest_age_s` is by the wall clocks of then and now; `damaged` counts records that
    nobody had missed before."""

    counts: LaneCounts
    segments: int
    blocks: int
    flash_bytes: int
    epochs: int
    oldest_age_s: float | None
    damaged: int


@dataclass(frozen=True, slots=True)
class Inspection:
    counts: SpoolCounts
    lanes: tuple[LaneView, ...]
    bad_blocks: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Law 1 holds, and nothing was found damaged."""
        return self.counts.holds and not self.bad_blocks and not any(lane.damaged for lane in self.lanes)


def inspect(state: Path, limits: SpoolLimits, clock: Clock) -> Inspection:
    """Raises UsageFault where there is no spool, DiskError where it can't be read."""
    for _ in range(_LOOKS):
        found, _ = _look(state, limits, clock)
        if found.is_sound:
            break
    return found


def verify(
    found: Inspection, state: Path, limits: SpoolLimits, clock: Clock, seen: Callable[[int], None]
) -> Inspection:
    """What `inspect` found, and every block decrypted and checked; `seen` hears how much flash each takes."""
    _, spool = _look(state, limits, clock)
    bad = {ref: words for ref in blocks_of(spool) if (words := _trouble(spool, ref, seen))}
    if bad:
        # The agent may have freed or recycled a block while we looked at it: what is still bad, is.
        _, again = _look(state, limits, clock)
        bad = {ref: words for ref in blocks_of(again) if ref in bad and (words := _trouble(again, ref, seen))}
    return replace(found, bad_blocks=tuple(bad.values()))


def blocks_of(spool: Spool) -> Iterator[BlockRef]:
    """Every block that hasn't left, lane by lane, oldest first."""
    for lane in Lane:
        ref = spool.next_unsent(lane, None)
        while ref is not None:
            yield ref
            ref = spool.next_unsent(lane, ref)


def _trouble(spool: Spool, ref: BlockRef, seen: Callable[[int], None]) -> str | None:
    seen(frame_pages(ref.wire_bytes) * PAGE_BYTES)
    try:
        spool.load(ref)
    except BadBlock as error:
        return str(error)
    return None


def _look(state: Path, limits: SpoolLimits, clock: Clock) -> tuple[Inspection, Spool]:
    if not (state / SPOOL_FOLDER).is_dir():
        raise UsageFault(f"There is no spool in {state}: no agent has run there yet. Name its folder with --state.")
    disk = Untouched(RealDisk(state / SPOOL_FOLDER))
    peeked = Ledger.peek(state / LEDGER_FILE)
    counters = MemoryCounters(was_lost=peeked is None)
    counters.set(**(peeked or {}))
    books = Books(disk).peek()
    totals = books.totals if books else dict.fromkeys(Lane, Totals())
    keys = FileKeyStore(Untouched(RealDisk(state / KEYS_FOLDER)))
    # What is made up for a new epoch is never written: zeros will do.
    spool = Spool.open(disk, keys, clock, bytes, limits, counters)
    return _inspection(spool, totals, clock), spool


def _inspection(spool: Spool, before: Mapping[Lane, Totals], clock: Clock) -> Inspection:
    counts = spool.counts()
    lanes = tuple(_still_pending(lane, before[lane.lane]) for lane in counts.lanes)
    views = tuple(_view(spool, lane, before[lane.lane], clock) for lane in lanes)
    return Inspection(replace(counts, lanes=lanes), views)


def _still_pending(lane: LaneCounts, before: Totals) -> LaneCounts:
    """What a start would count as lost is in a running agent's memory; of a dead one nobody has counted it yet."""
    return replace(lane, pending=lane.lost_in_crash - before.lost_in_crash, lost_in_crash=before.lost_in_crash)


def _view(spool: Spool, lane: LaneCounts, before: Totals, clock: Clock) -> LaneView:
    shelves = spool.segments(lane.lane)
    oldest_ns = min((segment.created_wall_ns for segment in shelves), default=None)
    return LaneView(
        counts=lane,
        segments=len(shelves),
        blocks=sum(segment.block_count for segment in shelves),
        flash_bytes=sum(segment.file_bytes for segment in shelves),
        epochs=len({segment.epoch for segment in shelves}),
        oldest_age_s=None if oldest_ns is None else (clock.wall_ns() - oldest_ns) / SECOND_NS,
        damaged=sum(lane.quarantined.values()) - sum(before.quarantined.values()),
    )
