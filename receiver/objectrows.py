"""Stored objects in the database: a row, committed, is what "stored" means. Each vehicle has rows of its own."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from receiver import admission, journal
from receiver.pki import Identity
from receiver.tables import stored_object


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of one vehicle. `stored_ns` is wall time."""

    vehicle: str
    sha256: str
    bytes: int
    stored_ns: int


def welcome(connection: Connection, who: Identity, sha256: str, now_ns: int) -> int | None:
    """Bytes of the object when it is stored, else None. Raises NotAdmitted for a certificate that isn't welcome."""
    admission.check(connection, who, now_ns)
    return find(connection, who.vehicle, sha256)


def find(connection: Connection, vehicle: str, sha256: str) -> int | None:
    """Bytes of the object when it is stored."""
    mine = stored_object.c.vehicle == vehicle, stored_object.c.sha256 == sha256
    return connection.execute(select(stored_object.c.bytes).where(*mine)).scalar_one_or_none()


def commit(connection: Connection, vehicle: str, sha256: str, size: int, now_ns: int) -> None:
    """Its file must be durable by now. Once more changes nothing."""
    if find(connection, vehicle, sha256) is None:
        row = {"vehicle": vehicle, "sha256": sha256, "bytes": size, "stored_ns": now_ns}
        connection.execute(insert(stored_object).values(row))


def used_bytes(connection: Connection, vehicle: str) -> int:
    """What the vehicle's stored objects take."""
    total = select(func.coalesce(func.sum(stored_object.c.bytes), 0)).where(stored_object.c.vehicle == vehicle)
    return int(connection.execute(total).scalar_one())


def sound_alarm(connection: Connection, vehicle: str, sha256: str, now_ns: int) -> None:
    """What came together under that name were other bytes."""
    journal.append(connection, now_ns, "object_mismatch", vehicle, f"other bytes came as object {sha256}")


def newest(connection: Connection, vehicle: str | None, most: int) -> list[StoredObject]:
    """The last `most` stored, of one vehicle or of all, the newest first."""
    whose = [] if vehicle is None else [stored_object.c.vehicle == vehicle]
    order = stored_object.c.stored_ns.desc(), stored_object.c.vehicle, stored_object.c.sha256
    rows = connection.execute(select(stored_object).where(*whose).order_by(*order).limit(most))
    return [StoredObject(row.vehicle, row.sha256, row.bytes, row.stored_ns) for row in rows]
