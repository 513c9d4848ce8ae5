"""Segments and books put together: what is spooled, what has left, what damage cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from telemetry.records import Lane
from telemetry.spool.books import Page
from telemetry.spool.counts import Quarantined, Totals, with_added
from telemetry.spool.intervals import IntervalSet, Range
from telemetry.spool.recovery import Survey
from telemetry.spool.shelf import Shelf, Stream
from telemetry.spool.untold import Untold, unheard, with_range

LOST_IN_CRASH: Final = "lost_in_crash"


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
        for torn in _account_for_torn(shelf, stream, present):
            untold = with_range(untold, (*stream, LOST_IN_CRASH), *torn)
    return Assembly(shelf, totals, _told_anew(untold, shelf, found.streams()))


def _account_for_damage(shelf: Shelf, stream: Stream, present: IntervalSet, floor: int) -> list[Range]:
    """The durable records that damage took."""
    corrupt = shelf.missing(stream, present, floor)
    for hole in corrupt:
        shelf.leave(stream, *hole)
    return corrupt


def _account_for_torn(shelf: Shelf, stream: Stream, present: IntervalSet) -> list[Range]:
    """Numbers that a torn commit gave to records: they never were durable, but the receiver would miss them."""
    end = max((end for _, end in present), default=0)
    torn = shelf.missing(stream, present, end)
    for hole in torn:
        shelf.leave(stream, *hole)
    return torn


def _told_anew(untold: Untold, shelf: Shelf, present: Mapping[Stream, IntervalSet]) -> Untold:
    """What records would have told that aren't there to be sent any more."""
    for lane, epoch, seq in untold.told:
        there = present.get((lane, epoch), IntervalSet()).covers(seq, seq + 1)
        if not (there and shelf.remaining((lane, epoch), seq, seq + 1)):
            untold = unheard(untold, (lane, epoch, seq))
    return untold
