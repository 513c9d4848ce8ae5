"""What of a vehicle's records is here, what it said will never come, and what is missing: neither.

Below the last record of a lane's epoch that is stored, a missing number is a loss, unless the vehicle has yet to send
it or to tell of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, select

from receiver import departed
from receiver.admission import NotAdmitted
from receiver.answers import LaneRecords, MissingRange, PlacedTime, VehicleRecords
from receiver.tables import coverage, inbox, vehicle
from receiver.times import Timeline, read_timeline
from telemetry.records import Lane
from telemetry.spool.intervals import IntervalSet, Range
from telemetry.wire import BadBlock, unpack_block, unpack_body

MISSING_SHOWN: Final = 100
Stream = tuple[Lane, bytes]


def account(stored: IntervalSet, left: Mapping[str, IntervalSet]) -> tuple[Counter[str], list[Range]]:
    """Of one epoch: how many left by reason, and the ranges that are missing. What is stored hasn't left, whatever was
    said; what left for several reasons counts for the first by name."""
    known, by_reason = stored.copy(), Counter[str]()
    for reason in sorted(left):
        for part in left[reason]:
            by_reason[reason] += known.add(*part)
    end = max((end for _, end in stored), default=0)
    return by_reason, list(known.gaps(0, end))


def of_vehicle(connection: Connection, name: str) -> VehicleRecords:
    """Raises NotAdmitted for a vehicle that isn't of the fleet."""
    if connection.execute(select(vehicle.c.id).where(vehicle.c.id == name)).first() is None:
        raise NotAdmitted(f"There is no vehicle {name} in this fleet. `outrider receiver fleet` lists them.")
    stored, left = _stored(connection, name), departed.ranges_of(connection, name)
    by_lane, gaps = {lane: Counter[str]() for lane in Lane}, list[tuple[Stream, Range]]()
    for stream in sorted(stored.keys() | left.keys()):
        reasons, missing = account(stored.get(stream, IntervalSet()), left.get(stream, {}))
        by_lane[stream[0]] += reasons
        gaps += [(stream, gap) for gap in missing]
    counts = departed.counts_of(connection, name)
    lanes = [_lane(lane, stored, by_lane[lane], gaps, counts) for lane in Lane]
    # A timeline takes a look at all that the vehicle told: only where there is something to place in it.
    timeline = read_timeline(connection, name) if gaps else Timeline([])
    return VehicleRecords(name, lanes, [_missing(connection, name, timeline, *gap) for gap in gaps[:MISSING_SHOWN]])


def _stored(connection: Connection, name: str) -> dict[Stream, IntervalSet]:
    found = defaultdict[Stream, IntervalSet](IntervalSet)
    rows = select(coverage).where(coverage.c.vehicle == name)
    for row in connection.execute(rows.order_by(coverage.c.lane, coverage.c.epoch, coverage.c.first_seq)):
        found[Lane(row.lane), row.epoch].add(row.first_seq, row.end_seq)
    return found


def _lane(
    lane: Lane,
    stored: Mapping[Stream, IntervalSet],
    left: Counter[str],
    gaps: list[tuple[Stream, Range]],
    counts: Mapping[tuple[Lane, str], int],
) -> LaneRecords:
    here = sum(end - start for stream, ranges in stored.items() if stream[0] is lane for start, end in ranges)
    counted = {reason: records for (of, reason), records in counts.items() if of is lane}
    unknown = sum(end - start for stream, (start, end) in gaps if stream[0] is lane)
    # Which of them were told by their number alone, nobody knows.
    return LaneRecords(lane.name, here, dict(left), counted, max(0, unknown - sum(counted.values())))


def _missing(connection: Connection, name: str, timeline: Timeline, stream: Stream, gap: Range) -> MissingRange:
    (lane, epoch), (start, end), base = stream, gap, inbox.c.base_seq
    of = inbox.c.vehicle == name, inbox.c.lane == int(lane), inbox.c.epoch == epoch
    beside = select(inbox.c.block).where(*of).limit(1)
    before = connection.execute(beside.where(base < start).order_by(base.desc())).scalar()
    behind = connection.execute(beside.where(base >= end).order_by(base)).scalar()
    return MissingRange(
        lane.name,
        epoch.hex(),
        start,
        end,
        _captured(timeline, before, last=True),
        _captured(timeline, behind, last=False),
    )


def _captured(timeline: Timeline, block: bytes | None, *, last: bool) -> PlacedTime | None:
    """When the block's last or first record was captured, as well as anybody knows; None when it isn't here."""
    if block is None:
        return None
    try:
        header, body = unpack_block(block)
        record = unpack_body(header, body)[-1 if last else 0]
    except BadBlock:
        return None  # another version took it
    placed = timeline.place(header.lane, header.epoch, record.captured_ns, record.wall_ns)
    return PlacedTime(placed.wall_ns, placed.source.value, placed.within_ns)
