"""What became of a vehicle's records, for people."""

from __future__ import annotations

import datetime

from rich.table import Table

from ecu.clock import SECOND_NS
from receiver.answers import LaneRecords, MissingRange, PlacedTime, VehicleRecords


def records_table(known: VehicleRecords) -> Table:
    table = Table("lane", "stored", "left the vehicle", "missing", title=f"Records of {known.vehicle}")
    for lane in known.lanes:
        missing = f"[bold red]{lane.missing:,}[/]" if lane.missing else "0"
        table.add_row(lane.lane, f"{lane.stored:,}", _left(lane), missing)
    return table


def missing_words(known: VehicleRecords) -> list[str]:
    """A line a range. The vehicle may still send or tell of it; what stays is a loss."""
    return [_missing(part) for part in known.missing]


def _left(lane: LaneRecords) -> str:
    ranged = [f"{records:,} {reason}" for reason, records in sorted(lane.left.items())]
    counted = [f"{records:,} {reason}, numbers unknown" for reason, records in sorted(lane.counted.items())]
    return "\n".join(ranged + counted)


def _missing(part: MissingRange) -> str:
    between = f"captured after {_time(part.after)} and before {_time(part.before)}"
    return f"missing {part.lane} {part.epoch[:8]} {part.start}-{part.end - 1}, {between}"


def _time(placed: PlacedTime | None) -> str:
    if placed is None:
        return "an unknown time"
    try:
        moment = datetime.datetime.fromtimestamp(placed.wall_ns // SECOND_NS, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return f"{placed.wall_ns} ns by a clock out of its mind"
    within = "by its own clock" if placed.within_ns is None else f"± {placed.within_ns / SECOND_NS:.1f} s"
    return f"{moment:%Y-%m-%d %H:%M:%SZ} ({within})"
