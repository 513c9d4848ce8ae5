"""What a vehicle says will never come, kept as merged ranges by stream and reason: its word, about itself alone.

Bounded, whatever it says. A claim that can't be true is refused, and its block is stored all the same.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import structlog
from sqlalchemy import Connection, delete, func, insert, select, update

from receiver.tables import departed, departed_count
from telemetry.records import Lane, RecordsLeft, Stored, events_in
from telemetry.spool.intervals import IntervalSet

RANGES_PER_VEHICLE: Final = 1 << 16
REASONS_PER_VEHICLE: Final = 64
RANGES_A_BLOCK: Final = 1024
STREAMS_A_BLOCK: Final = 64
BEYOND: Final = 1 << 48
"""No lane gives out so many numbers in one start: at a million a second that were nine years."""
_EPOCH_BYTES: Final = 16
_REASON: Final = re.compile(r"[a-z_]{1,24}(:[a-z_]{1,24})?")

Key = tuple[Lane, bytes, str]
log = structlog.get_logger()


def keep(
    connection: Connection, vehicle: str, records: Iterable[Stored], ranges_per_vehicle: int = RANGES_PER_VEHICLE
) -> None:
    """What these records, stored for the first time, say has left. Beyond `ranges_per_vehicle` the number is kept."""
    ranges, counts = gathered(vehicle, events_in(records, RecordsLeft))
    room = ranges_per_vehicle - _ranges_of(connection, vehicle) if ranges else 0
    for key, parts in ranges.items():
        if len(parts) > room:
            counts[key[0], key[2]] += sum(end - start for start, end in parts)
        else:
            room -= _merge(connection, vehicle, key, parts)
    for (lane, reason), more in counts.items():
        _add(connection, vehicle, lane, reason, more)


def gathered(vehicle: str, told: Iterable[RecordsLeft]) -> tuple[dict[Key, IntervalSet], Counter[tuple[Lane, str]]]:
    """What can be true of that, as far as a block may say it."""
    ranges, counts, held = defaultdict[Key, IntervalSet](IntervalSet), Counter[tuple[Lane, str]](), 0
    for event in told:
        key = _key(event)
        held += len(event.ranges)
        keys = len(ranges.keys() | {key}) + len(counts)
        if key is None or held > RANGES_A_BLOCK or keys > STREAMS_A_BLOCK:
            log.warning("claim_refused", vehicle=vehicle, reason=event.reason[:50])
            continue
        for part in event.ranges:
            ranges[key].add(*part)
        if event.unranged:
            counts[key[0], key[2]] += event.unranged
    return dict(ranges), counts


def _key(event: RecordsLeft) -> Key | None:
    """None for what no vehicle of ours would say."""
    is_ranged = len(event.epoch) == _EPOCH_BYTES and all(0 <= start < end <= BEYOND for start, end in event.ranges)
    is_fit = event.lane in set(Lane) and _REASON.fullmatch(event.reason) and 0 <= event.unranged <= BEYOND
    return (Lane(event.lane), event.epoch, event.reason) if is_fit and (is_ranged or not event.ranges) else None


def _ranges_of(connection: Connection, vehicle: str) -> int:
    mine = select(func.count()).select_from(departed).where(departed.c.vehicle == vehicle)
    return int(connection.execute(mine).scalar_one())


def _merge(connection: Connection, vehicle: str, key: Key, parts: IntervalSet) -> int:
    """How many more rows that takes."""
    lane, epoch, reason = key
    who = {"vehicle": vehicle, "lane": int(lane), "epoch": epoch, "reason": reason}
    bounds = [bound for part in parts for bound in part]
    of = *(departed.c[name] == value for name, value in who.items()), departed.c.first_seq <= bounds[-1]
    met = *of, departed.c.end_seq >= bounds[0]
    known = [(row.first_seq, row.end_seq) for row in connection.execute(select(departed).where(*met))]
    merged = IntervalSet([*known, *parts])
    connection.execute(delete(departed).where(*met))
    connection.execute(insert(departed), [who | {"first_seq": start, "end_seq": end} for start, end in merged])
    return len(merged) - len(known)


def _add(connection: Connection, vehicle: str, lane: Lane, reason: str, more: int) -> None:
    mine = departed_count.c.vehicle == vehicle
    this = mine, departed_count.c.lane == int(lane), departed_count.c.reason == reason
    known = connection.execute(select(departed_count.c.records).where(*this)).scalar_one_or_none()
    if known is not None:
        connection.execute(update(departed_count).where(*this).values(records=min(known + more, BEYOND)))
        return
    kept = connection.execute(select(func.count()).select_from(departed_count).where(mine)).scalar_one()
    if kept < REASONS_PER_VEHICLE:
        row = {"vehicle": vehicle, "lane": int(lane), "reason": reason, "records": min(more, BEYOND)}
        connection.execute(insert(departed_count).values(row))


def ranges_of(connection: Connection, vehicle: str) -> Mapping[tuple[Lane, bytes], dict[str, IntervalSet]]:
    """By stream and reason."""
    found = defaultdict[tuple[Lane, bytes], dict[str, IntervalSet]](dict)
    for row in connection.execute(select(departed).where(departed.c.vehicle == vehicle)):
        found[Lane(row.lane), row.epoch].setdefault(row.reason, IntervalSet()).add(row.first_seq, row.end_seq)
    return found


def counts_of(connection: Connection, vehicle: str) -> dict[tuple[Lane, str], int]:
    """Of records whose numbers nobody knows any more."""
    rows = connection.execute(select(departed_count).where(departed_count.c.vehicle == vehicle))
    return {(Lane(row.lane), row.reason): int(row.records) for row in rows}
