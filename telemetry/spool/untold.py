"""What left without an acknowledgement and the receiver hasn't heard of: ranges by lane, epoch and reason.

They are in the books from the page on that says they left, and go once a record that tells them is durable: a power cut
in between tells them twice, which is as good as once. Few are held: beyond that the oldest keep their count only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from telemetry.records import Lane
from telemetry.spool.intervals import IntervalSet, Range

MOST_RANGES: Final = 64
NO_EPOCH: Final = b""

Key = tuple[Lane, bytes, str]
"""Lane, epoch, and the reason as `family:reason`, e.g. "evicted:quota"; "erased" has none."""


@dataclass(frozen=True, slots=True)
class Untold:
    """As the books keep it: ranges by key, and how many records of a lane left for a reason with no range held."""

    ranges: Mapping[Key, tuple[Range, ...]] = field(default_factory=dict)
    unranged: Mapping[Key, int] = field(default_factory=dict)

    @property
    def records(self) -> int:
        ranged = sum(end - start for ranges in self.ranges.values() for start, end in ranges)
        return ranged + sum(self.unranged.values())


@dataclass(frozen=True, slots=True)
class Report:
    """One telling: of one key, all that is held."""

    key: Key
    ranges: tuple[Range, ...] = ()
    unranged: int = 0


def with_range(untold: Untold, key: Key, start: int, end: int) -> Untold:
    held = {**untold.ranges, key: tuple(IntervalSet([*untold.ranges.get(key, ()), (start, end)]))}
    bounded = Untold(held, untold.unranged)
    while sum(len(ranges) for ranges in bounded.ranges.values()) > MOST_RANGES:
        bounded = _without_oldest(bounded)
    return bounded


def with_unranged(untold: Untold, lane: Lane, reason: str, records: int) -> Untold:
    if records <= 0:
        return untold
    key = lane, NO_EPOCH, reason
    return Untold(untold.ranges, {**untold.unranged, key: untold.unranged.get(key, 0) + records})


def _without_oldest(untold: Untold) -> Untold:
    key, ranges = next(iter(untold.ranges.items()))
    (start, end), rest = ranges[0], ranges[1:]
    left = {**untold.ranges, key: rest} if rest else {k: r for k, r in untold.ranges.items() if k != key}
    return with_unranged(Untold(left, untold.unranged), key[0], key[2], end - start)


def next_report(untold: Untold) -> Report | None:
    """The next thing to tell; None when all was told."""
    for key, ranges in untold.ranges.items():
        return Report(key, ranges)
    for key, records in untold.unranged.items():
        return Report(key, unranged=records)
    return None


def without(untold: Untold, told: Report) -> Untold:
    """What is still to be told after that."""
    heard = IntervalSet(told.ranges)
    rest = tuple(gap for start, end in untold.ranges.get(told.key, ()) for gap in heard.gaps(start, end))
    records = untold.unranged.get(told.key, 0) - told.unranged
    return Untold(
        {key: ranges for key, ranges in {**untold.ranges, told.key: rest}.items() if ranges},
        {key: count for key, count in {**untold.unranged, told.key: records}.items() if count > 0},
    )
