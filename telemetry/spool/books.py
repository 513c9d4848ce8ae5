"""The books: what left the spool and why, kept in twin records; layout in docs/formats/spool.md.

Losing the newest page of the books costs resends and nothing else, as long as what it says left is still in segments.
So both twins are written before a segment is freed, and one twin, now and then, for acknowledgements alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ecu.disk import Disk, DiskError, replace_file
from ecu.errors import OutriderError
from ecu.twin import OVERHEAD_BYTES, TwinLost, TwinRecord
from telemetry.records import Lane, Purpose
from telemetry.spool.aging import Aged
from telemetry.spool.counts import Totals
from telemetry.spool.limits import PAGE_BYTES
from telemetry.spool.shelf import Shelf, Stream
from telemetry.spool.untold import Report, Untold

NAME: Final = "books"
ASIDE: Final = f"{NAME}.aside"
"""What another release wrote, for whoever wants to know."""
VERSION: Final = 2
_TWINS: Final = (f"{NAME}.0", f"{NAME}.1")
_CAPACITY: Final = 2 * PAGE_BYTES


class BooksTooNew(OutriderError):
    """Another release wrote this spool's books."""


@dataclass(frozen=True, slots=True)
class Page:
    """One state of the books. `clean`: nothing was pending when it was written, and nothing was offered since."""

    spool_id: bytes
    clean: bool = False
    totals: Mapping[Lane, Totals] = field(default_factory=lambda: dict.fromkeys(Lane, Totals()))
    left: Mapping[Stream, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    erasures: Mapping[Purpose, int] = field(default_factory=dict)
    erasing: frozenset[Purpose] = frozenset()
    aged: Aged = field(default_factory=Aged)
    untold: Untold = field(default_factory=Untold)

    def is_erased(self, purpose: Purpose, serial: int) -> bool:
        """Whether the key to that purpose's blocks in the segment of that serial is gone."""
        return serial < self.erasures.get(purpose, 0)


class _Lane(msgspec.Struct, frozen=True, array_like=True):
    acknowledged: int
    evicted: dict[str, int]
    quarantined: dict[str, int]
    erased: int
    dropped: dict[str, int]
    lost_in_crash: int


class _Stream(msgspec.Struct, frozen=True, array_like=True):
    lane: int
    epoch: bytes
    steps: list[int]  # distances: to the first start, from start to end, from end to the next start, ...


class _Told(msgspec.Struct, frozen=True, array_like=True):
    lane: int
    epoch: bytes
    reason: str
    steps: list[int]
    unranged: int


class _Page(msgspec.Struct, frozen=True, array_like=True):
    version: int
    spool_id: bytes
    clean: bool
    lanes: list[_Lane]
    streams: list[_Stream]
    erasures: list[tuple[int, int]]  # purpose, serial
    erasing: list[int]
    aged: tuple[int, int]  # spool time and boot time when this was written, ns
    untold: list[_Told]
    told: list[tuple[int, bytes, int, _Told]] = []  # by which durable record: lane, epoch, number


_decoder = msgspec.msgpack.Decoder(_Page)


def encode(page: Page) -> bytes:
    return msgspec.msgpack.encode(
        _Page(
            VERSION,
            page.spool_id,
            page.clean,
            [_packed_totals(page.totals[lane]) for lane in Lane],
            [_Stream(int(lane), epoch, _stepped(ranges)) for (lane, epoch), ranges in page.left.items()],
            [(int(purpose), serial) for purpose, serial in page.erasures.items()],
            sorted(int(purpose) for purpose in page.erasing),
            (page.aged.spool_ns, page.aged.boot_ns),
            _packed_untold(page.untold),
            [(int(lane), epoch, seq, _packed_report(told)) for (lane, epoch, seq), told in page.untold.told.items()],
        )
    )


def decode(data: bytes) -> Page:
    """Raises BooksTooNew; its checksum was right, so anything else about it is ours."""
    try:
        page = _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise BooksTooNew(
            f"The spool's books are another release's ({error}). Start the release that wrote them, or move the spool"
            " folder away to begin a new one."
        ) from error
    if page.version != VERSION:
        raise BooksTooNew(
            f"The spool's books are version {page.version}; this release knows {VERSION}. Start the release that"
            " wrote them, or move the spool folder away to begin a new one."
        )
    return Page(
        page.spool_id,
        page.clean,
        {lane: _unpacked_totals(packed) for lane, packed in zip(Lane, page.lanes, strict=True)},
        {(Lane(s.lane), s.epoch): _unstepped(s.steps) for s in page.streams},
        {Purpose(purpose): serial for purpose, serial in page.erasures},
        frozenset(Purpose(purpose) for purpose in page.erasing),
        Aged(*page.aged),
        _unpacked_untold(page),
    )


def _packed_totals(totals: Totals) -> _Lane:
    return _Lane(
        totals.acknowledged,
        dict(totals.evicted),
        dict(totals.quarantined),
        totals.erased,
        dict(totals.dropped),
        totals.lost_in_crash,
    )


def _unpacked_totals(lane: _Lane) -> Totals:
    return Totals(lane.acknowledged, lane.evicted, lane.quarantined, lane.erased, lane.dropped, lane.lost_in_crash)


def _packed_untold(untold: Untold) -> list[_Told]:
    reports = [Report(key, ranges) for key, ranges in untold.ranges.items()]
    reports += [Report(key, unranged=records) for key, records in untold.unranged.items()]
    return [_packed_report(report) for report in reports]


def _packed_report(report: Report) -> _Told:
    lane, epoch, reason = report.key
    return _Told(int(lane), epoch, reason, _stepped(report.ranges), report.unranged)


def _unpacked_untold(page: _Page) -> Untold:
    reports = [_unpacked_report(one) for one in page.untold]
    return Untold(
        {report.key: report.ranges for report in reports if report.ranges},
        {report.key: report.unranged for report in reports if report.unranged},
        {(Lane(lane), epoch, seq): _unpacked_report(one) for lane, epoch, seq, one in page.told},
    )


def _unpacked_report(told: _Told) -> Report:
    return Report((Lane(told.lane), told.epoch, told.reason), _unstepped(told.steps), told.unranged)


def _stepped(ranges: tuple[tuple[int, int], ...]) -> list[int]:
    bounds = [bound for pair in ranges for bound in pair]
    return [bound - before for before, bound in zip([0, *bounds], bounds, strict=False)]


def _unstepped(steps: list[int]) -> tuple[tuple[int, int], ...]:
    bounds, at = [], 0
    for step in steps:
        at += step
        bounds.append(at)
    return tuple(zip(bounds[::2], bounds[1::2], strict=True))


def page_of(
    spool_id: bytes,
    clean: bool,
    totals: Mapping[Lane, Totals],
    shelf: Shelf,
    erasing: set[Purpose],
    aged: Aged,
    untold: Untold,
) -> Page:
    left = {stream: tuple(shelf.left_beyond_erasures(stream)) for stream in shelf.left()}
    return Page(
        spool_id,
        clean,
        dict(totals),
        {stream: ranges for stream, ranges in left.items() if ranges},
        dict(shelf.erasures),
        frozenset(erasing),
        aged,
        untold,
    )


class Books:
    """The page on disk. `lost` says that there had been one and neither twin of it was whole, or could be understood:
    what another release wrote is set aside as it is, and stops nobody (law 10)."""

    def __init__(self, disk: Disk) -> None:
        # A file that once had to grow stays as it is: making it smaller would take space.
        capacity = max([_CAPACITY, *(disk.size(twin) for twin in _TWINS if disk.exists(twin))])
        self._disk = disk
        self._record = TwinRecord(disk, NAME, capacity)
        self._anew = False
        self.lost = False

    def read(self) -> Page | None:
        """The newest page, durable; None when there is none: a spool opens without its books, too."""
        try:
            return self._page(self._record.read)
        except BooksTooNew:
            self.lost = self._anew = True
            with contextlib.suppress(DiskError):
                replace_file(self._disk, ASIDE, self._record.peek() or b"")
            return None

    def peek(self) -> Page | None:
        """As `read`, touching nothing. Raises BooksTooNew."""
        return self._page(self._record.peek)

    def _page(self, read: Callable[[], bytes | None]) -> Page | None:
        try:
            data = read()
        except TwinLost:
            self.lost = self._anew = True
            return None
        return decode(data) if data is not None else None

    def write(self, page: Page) -> None:
        """Durable in one twin: enough where losing it costs a resend."""
        self._put(encode(page), self._record.write)

    def write_both(self, page: Page) -> None:
        """Durable in both: before anything is destroyed that the page says has left."""
        self._put(encode(page), self._record.write_both)

    def _put(self, data: bytes, put: Callable[[bytes], None]) -> None:
        """Makes the record larger when the page has outgrown it: only then does writing it take space."""
        before = self._record.capacity
        self._record.capacity = max(before, -(-(len(data) + OVERHEAD_BYTES) // PAGE_BYTES) * PAGE_BYTES)
        try:
            (self._record.start_anew if self._anew else put)(data)
        except DiskError:
            # A smaller page may still fit where the last one lay.
            self._record.capacity = before
            raise
        self._anew = False
