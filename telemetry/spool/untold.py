"""What left without an acknowledgement and the receiver hasn't heard of: ranges by lane, epoch and reason.

They are in the books from the page on that says they left, and go once a record that tells them is acknowledged. When
that record leaves in another way, they are told anew. A power cut before the books say that a record tells them tells
them twice, which is as good as once. Few are held: beyond that the oldest keep their count only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from telemetry.records import Lane
from telemetry.spool.intervals import IntervalSet, Range

MOST_RANGES: Final = 64
MOST_TOLD: Final = 8
"""Reports that are durable and wait to be acknowledged: while nobody takes them, further ones only take space."""
NO_EPOCH: Final = b""

Key = tuple[Lane, bytes, str]
"""Lane, epoch, and the reason as `family:reason`, e.g. "evicted:quota"; "erased" and "lost_in_crash" have none."""

Name = tuple[Lane, bytes, int]
"""A record that tells: its own lane, epoch and number."""


@dataclass(frozen=True, slots=True)
class Report:
    """One telling: of one key, all that is held."""

    key: Key
    ranges: tuple[Range, ...] = ()
    unranged: int = 0


@dataclass(frozen=True, slots=True)
class Untold:
    """As the books keep it: ranges by key, and how many records of a lane left for a reason with no range held.

    `told`: what durable records tell that the receiver hasn't acknowledged.
    """

    ranges: Mapping[Key, tuple[Range, ...]] = field(default_factory=dict)
    unranged: Mapping[Key, int] = field(default_factory=dict)
    told: Mapping[Name, Report] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Of which no durable record tells."""
        ranged = sum(end - start for ranges in self.ranges.values() for start, end in ranges)
        return ranged + sum(self.unranged.values())


def with_range(untold: Untold, key: Key, start: int, end: int) -> Untold:
    held = {**untold.ranges, key: tuple(IntervalSet([*untold.ranges.get(key, ()), (start, end)]))}
    bounded = replace(untold, ranges=held)
    while sum(len(ranges) for ranges in bounded.ranges.values()) > MOST_RANGES:
        bounded = _without_oldest(bounded)
    return bounded


def with_unranged(untold: Untold, lane: Lane, reason: str, records: int) -> Untold:
    if records <= 0:
        return untold
    key = lane, NO_EPOCH, reason
    return replace(untold, unranged={**untold.unranged, key: untold.unranged.get(key, 0) + records})


def _without_oldest(untold: Untold) -> Untold:
    key, ranges = next(iter(untold.ranges.items()))
    (start, end), rest = ranges[0], ranges[1:]
    left = {**untold.ranges, key: rest} if rest else {k: r for k, r in untold.ranges.items() if k != key}
    return with_unranged(replace(untold, ranges=left), key[0], key[2], end - start)


def next_report(untold: Untold) -> Report | None:
    """The next thing to tell; None when all was told, or so much that nobody has acknowledged."""
    if len(untold.told) >= MOST_TOLD:
        return None
    for key, ranges in untold.ranges.items():
        return Report(key, ranges)
    for key, records in untold.unranged.items():
        return Report(key, unranged=records)
    return None


def told_by(untold: Untold, name: Name, report: Report) -> Untold:
    """A durable record of that name tells the report."""
    heard = IntervalSet(report.ranges)
    rest = tuple(gap for start, end in untold.ranges.get(report.key, ()) for gap in heard.gaps(start, end))
    records = untold.unranged.get(report.key, 0) - report.unranged
    return Untold(
        {key: ranges for key, ranges in {**untold.ranges, report.key: rest}.items() if ranges},
        {key: count for key, count in {**untold.unranged, report.key: records}.items() if count > 0},
        {**untold.told, name: report},
    )


def heard(untold: Untold, name: Name) -> Untold:
    """The receiver has stored that record: what it tells is known for good."""
    return replace(untold, told={other: report for other, report in untold.told.items() if other != name})


def unheard(untold: Untold, name: Name) -> Untold:
    """Nobody will ever read that record: what it would have told has to be told anew."""
    lane, epoch, reason = (report := untold.told[name]).key
    untold = with_unranged(heard(untold, name), lane, reason, report.unranged)
    for part in report.ranges:
        untold = with_range(untold, (lane, epoch, reason), *part)
    return untold


def names_in(untold: Untold, stream: tuple[Lane, bytes], start: int, end: int) -> list[Name]:
    """The records among start .. end-1 that tell something."""
    return [name for name in untold.told if name[:2] == stream and start <= name[2] < end]
