"""What the operator's API answers: values that its server and its client share."""

from __future__ import annotations

import msgspec

from ecu.errors import UsageFault
from telemetry.links.pairing import is_vehicle_id


class FleetMember(msgspec.Struct, frozen=True):
    """One vehicle. Times are wall time, ns; `records` are those stored, by lane."""

    vehicle: str
    connected: bool
    enrolled_ns: int
    seen_ns: int | None
    certificates: int
    records: dict[str, int]


class LaneRecords(msgspec.Struct, frozen=True):
    """A lane's records: `left` the vehicle by reason, `counted` as that but by number alone, `missing` neither."""

    lane: str
    stored: int
    left: dict[str, int]
    counted: dict[str, int]
    missing: int


class PlacedTime(msgspec.Struct, frozen=True):
    """True wall time by `source` (telemetry.records.TimeSource), right within `within_ns`; None: nobody vouches."""

    wall_ns: int
    source: str
    within_ns: int | None


class MissingRange(msgspec.Struct, frozen=True):
    """Numbers `start` .. `end`-1, captured `after` and `before` those times, where records on that side are stored."""

    lane: str
    epoch: str
    start: int
    end: int
    after: PlacedTime | None
    before: PlacedTime | None


class VehicleRecords(msgspec.Struct, frozen=True):
    """`missing`: the first of them."""

    vehicle: str
    lanes: list[LaneRecords]
    missing: list[MissingRange]


class Revoked(msgspec.Struct, frozen=True):
    vehicle: str
    certificates: int
    connections_cut: int


class AuditLine(msgspec.Struct, frozen=True):
    seq: int
    wall_ns: int
    event: str
    subject: str
    detail: str
    digest: str


class AuditTail(msgspec.Struct, frozen=True):
    """The newest entries, oldest first, and whether the whole chain holds: `broken_at` is None or the first bad seq."""

    entries: list[AuditLine]
    broken_at: int | None


class AuditVerdict(msgspec.Struct, frozen=True):
    """The whole chain against itself and against `checkpoints` that were signed: `findings` in words, none when it
    holds."""

    entries: int
    head_seq: int
    head_digest: str
    checkpoints: int
    findings: list[str]


class ObjectLine(msgspec.Struct, frozen=True):
    """A stored object. `stored_ns` is wall time; `path` is its file on the receiver's computer."""

    vehicle: str
    sha256: str
    bytes: int
    stored_ns: int
    path: str


def checked_vehicle(name: str) -> str:
    """The name, if a vehicle can have it. Raises UsageFault."""
    if not is_vehicle_id(name):
        raise UsageFault(f"{name!r} is no vehicle id: use 3 to 63 of a-z, 0-9 and '-', not '-' first.")
    return name
