"""Segments and books put together: what is spooled, what has left, what damage cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from telemetry.records import Lane
from telemetry.spool.books import Page
from telemetry.spool.counts import Quarantined, Totals, with_added
from telemetry.spool.intervals import IntervalSet, Range
from telemetry.spool.recovery import Survey
from telemetry.spool.shelf import Shelf, Stream
from telemetry.spool.untold import Untold, with_range


@dataclass(frozen=True, slots=True)
class Assembly:
    """A spool as it lies there, damage accounted for."""

    shelf: Shelf
    totals: dict[Lane, Totals]
    untold: Untold


def assemble(found: Survey, page: Page) -> Assembly:
    shelf = Shelf()
    for segment in found.segments:
        shelf.place(segment)
    for stream, ranges in page.left.items():
        for start, end in ranges:
            shelf.leave(stream, start, end)
    for purpose, below_serial in page.erasures.items():
        shelf.erase(purpose, below_serial)
    totals, untold = dict(page.totals), page.untold
    for stream, present in found.streams().items():
        lane, _ = stream
        holes = _account_for_damage(shelf, stream, present, found.floors[stream])
        corrupt = sum(end - start for start, end in holes)
        quarantined = with_added(totals[lane].quarantined, Quarantined.CORRUPT, corrupt)
        totals[lane] = replace(totals[lane], quarantined=quarantined)
        for hole in holes:
            untold = with_range(untold, (*stream, f"quarantined:{Quarantined.CORRUPT.value}"), *hole)
    return Assembly(shelf, totals, untold)


def _account_for_damage(shelf: Shelf, stream: Stream, present: IntervalSet, floor: int) -> list[Range]:
    """The durable records that damage took. Those of a torn commit aren't there either, but never were durable."""
    corrupt = shelf.missing(stream, present, floor)
    for hole in corrupt:
        shelf.leave(stream, *hole)
    end = max((end for _, end in present), default=0)
    for torn in shelf.missing(stream, present, end):
        shelf.leave(stream, *torn)
    return corrupt
