"""What each vehicle has in its good slots, by its own signature: the newest version manifest of each.

Uptane standard 2.1.0, section 5.3.2.1: a director checks who signed a manifest, that it is of that vehicle, and that it
wasn't sent before. What doesn't hold is logged and left; its block is stored all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog
from sqlalchemy import Connection, delete, insert, select

from ota.report import NotBelieved, VersionManifest, believed
from receiver.learning.books import keys_of
from receiver.learning.judging import verifier
from receiver.tables import vehicle_version
from telemetry.records import Stored, UpdateReport, events_in

MANIFESTS_A_BLOCK: Final = 16
"""Each costs a signature's check, and a block may hold thousands: the newest are looked at."""

log = structlog.get_logger()


def keep(connection: Connection, vehicle: str, records: Iterable[Stored], now_ns: int) -> None:
    """The newest that holds, of those that these records bring."""
    told = [event.manifest for event in events_in(records, UpdateReport) if event.manifest][-MANIFESTS_A_BLOCK:]
    if not told:
        return
    verify, seen = verifier(keys_of(connection, vehicle), now_ns), _counter(connection, vehicle)
    for data in told:
        try:
            manifest = believed(data, vehicle, verify, seen)
        except NotBelieved as refusal:
            log.warning("version_manifest_refused", vehicle=vehicle, reason=str(refusal))
            continue
        seen = manifest.counter
        connection.execute(delete(vehicle_version).where(vehicle_version.c.vehicle == vehicle))
        row = {"vehicle": vehicle, "counter": seen, "manifest": data, "received_ns": now_ns}
        row |= {"hardware": manifest.hardware}
        connection.execute(insert(vehicle_version), [row])


def version_of(connection: Connection, vehicle: str) -> VersionManifest | None:
    """What the vehicle last said of its slots; None when it never did."""
    mine = select(vehicle_version.c.manifest).where(vehicle_version.c.vehicle == vehicle)
    data = connection.execute(mine).scalar_one_or_none()
    return None if data is None else _read(vehicle, data)


def _read(vehicle: str, kept: bytes) -> VersionManifest:
    """Its signature was checked when it came."""
    return believed(kept, vehicle, lambda message, signature: True, -1)


def has_committed(connection: Connection, vehicle: str, digest: str) -> bool:
    """Whether the release of this digest is in one of the vehicle's good slots, by its own signature."""
    version = version_of(connection, vehicle)
    return version is not None and version.holds(digest)


def holders(connection: Connection, digest: str) -> set[str]:
    """All that have it by their newest manifests."""
    rows = connection.execute(select(vehicle_version.c.vehicle, vehicle_version.c.manifest))
    return {str(row.vehicle) for row in rows if _read(row.vehicle, row.manifest).holds(digest)}


def is_vouched_for(connection: Connection, vehicle: str, digest: str, manifest: bytes, received_ns: int) -> bool:
    """Whether this manifest, which came then with a report, is the vehicle's own and has the release of this digest in
    a good slot, and the newest one doesn't say otherwise. Who sends an old one again is held to the newest."""
    if not manifest or not has_committed(connection, vehicle, digest):
        return False
    try:
        its = believed(manifest, vehicle, verifier(keys_of(connection, vehicle), received_ns), -1)
    except NotBelieved as refusal:
        log.warning("version_manifest_refused", vehicle=vehicle, reason=str(refusal))
        return False
    return its.holds(digest)


def hardware(connection: Connection) -> dict[str, str]:
    """What each vehicle is by its newest manifest, of those that ever sent one."""
    rows = connection.execute(select(vehicle_version.c.vehicle, vehicle_version.c.hardware))
    return {str(row.vehicle): str(row.hardware or "") for row in rows}


def _counter(connection: Connection, vehicle: str) -> int:
    mine = select(vehicle_version.c.counter).where(vehicle_version.c.vehicle == vehicle)
    return connection.execute(mine).scalar_one_or_none() or 0
