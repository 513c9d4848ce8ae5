"""When a record was captured, truly: boot time placed in wall time by what its vehicle told of its clock.

Pure but for `read_timeline`. A record's own `wall_ns` is what the vehicle believed then, and may be decades off.
receiver/completeness.py says by it when what is missing was captured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from ecu.clock import MILLISECOND_NS, SECOND_NS
from receiver.tables import inbox
from telemetry.records import PLACES, ClockAnchor, Lane, TimeSource, decode_event
from telemetry.wire import BadBlock, unpack_block, unpack_body

DRIFT: Final = 1e-4
"""Of a computer's clock that nobody disciplines: 100 parts in a million."""
STEP_NS: Final = 2 * SECOND_NS
"""Beyond that and drift a clock didn't go wrong: somebody set it."""
_LANE, _PURPOSE = PLACES[ClockAnchor]


@dataclass(frozen=True, slots=True)
class Placed:
    """True wall time as far as it is known: by `source`, and then right within `within_ns`; that is None where nobody
    vouched for more than its vehicle did."""

    wall_ns: int
    source: TimeSource
    within_ns: int | None


class Moment(msgspec.Struct, frozen=True):
    """When a record was captured, as its vehicle has it: boot time, in a block of that lane and epoch, and wall time as
    it believed it to be."""

    lane: Lane
    epoch: bytes
    captured_ns: int
    believed_ns: int


class Timeline:
    """One vehicle's. A later anchor of a boot places what was captured before it, too."""

    def __init__(self, anchors: Iterable[ClockAnchor]) -> None:
        self._boots: dict[tuple[str, str], str] = {}
        self._anchors: defaultdict[str, list[ClockAnchor]] = defaultdict(list)
        for anchor in anchors:
            self._anchors[anchor.boot].append(anchor)
            self._boots.update(dict.fromkeys(anchor.epochs.items(), anchor.boot))

    def place(self, lane: Lane, epoch: bytes, captured_ns: int, believed_ns: int) -> Placed:
        """Of a record in a block of that lane and epoch. `believed_ns` is its own `wall_ns`."""
        boot = self._boots.get((lane.name, epoch.hex()))
        told = self._anchors[boot] if boot is not None else []
        for source in (TimeSource.RECEIVER, TimeSource.CERTIFICATES):
            known = [anchor for anchor in told if anchor.source == source.value]
            if source is TimeSource.CERTIFICATES:
                known = _after_all(known)
            if known:
                return _placed(min(known, key=lambda anchor: abs(anchor.boot_ns - captured_ns)), source, captured_ns)
        return Placed(believed_ns, TimeSource.UNPROVEN, None)

    def is_later(self, one: Moment, other: Moment) -> bool:
        """On what both have in common: one boot's time, time somebody vouched for, or what the vehicle believed."""
        boots = {self._boots.get((moment.lane.name, moment.epoch.hex())) for moment in (one, other)}
        if len(boots) == 1 and None not in boots:
            return one.captured_ns > other.captured_ns
        placed = [self.place(it.lane, it.epoch, it.captured_ns, it.believed_ns) for it in (one, other)]
        if any(its.source is TimeSource.UNPROVEN for its in placed):
            return one.believed_ns > other.believed_ns
        return placed[0].wall_ns > placed[1].wall_ns


def _after_all(anchors: list[ClockAnchor]) -> list[ClockAnchor]:
    """Those that agree with the last: a clock that was set since then was wrong before."""
    last = max(anchors, key=lambda anchor: anchor.boot_ns, default=None)
    return [anchor for anchor in anchors if last is not None and _agree(anchor, last)]


def _agree(one: ClockAnchor, other: ClockAnchor) -> bool:
    apart_ns = one.boot_ns - other.boot_ns
    return abs(one.wall_ns - other.wall_ns - apart_ns) <= STEP_NS + abs(apart_ns) * DRIFT


def _placed(anchor: ClockAnchor, source: TimeSource, captured_ns: int) -> Placed:
    apart_ns = captured_ns - anchor.boot_ns
    within_ns = None
    if source is TimeSource.RECEIVER:
        within_ns = anchor.within_ms * MILLISECOND_NS + int(abs(apart_ns) * DRIFT)
    return Placed(anchor.wall_ns + apart_ns, source, within_ns)


def read_timeline(connection: Connection, vehicle: str, since_ns: int = 0) -> Timeline:
    """From all that the vehicle has told since then and is still in the inbox."""
    mine = inbox.c.vehicle == vehicle, inbox.c.lane == _LANE.value, inbox.c.received_ns >= since_ns
    wanted = select(inbox.c.block).where(*mine)
    return Timeline(anchor for row in connection.execute(wanted) for anchor in _anchors_in(row.block))


def _anchors_in(block: bytes) -> Iterator[ClockAnchor]:
    try:
        header, body = unpack_block(block)
        records = unpack_body(header, body) if header.purpose is _PURPOSE else []
    except BadBlock:
        return  # another version took it
    for record in records:
        try:
            event = decode_event(record.event)
        except msgspec.DecodeError:
            continue
        if isinstance(event, ClockAnchor):
            yield event
