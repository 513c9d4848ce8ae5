"""Who is let in: enrolment by a one-time token, certificates, and their revocation, each one transaction.

Every function takes a connection and what time it is, and leaves an audit entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from ecu.clock import SECOND_NS
from ecu.errors import OutriderError
from receiver import journal
from receiver.pki import Authority, Certificate, Identity, key_digest
from receiver.prepared import Prepared
from receiver.tables import coverage, credential, enrolment, vehicle
from telemetry.records import Lane

CERTIFICATES_AT_ONCE = 5
_AT_ONCE_NS = 3600 * SECOND_NS


class NotAdmitted(OutriderError):
    """The receiver doesn't let this one in. The message says why, and what to do."""


class TooOften(OutriderError):
    """This vehicle has had so many certificates that it must wait `wait_s` for another."""

    def __init__(self, words: str, wait_s: float) -> None:
        super().__init__(words)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Member:
    """One vehicle of the fleet, as its operator sees it."""

    vehicle: str
    enrolled_ns: int
    seen_ns: int | None
    certificates: int  # that are valid now
    records: dict[Lane, int]  # stored


def enrol(connection: Connection, name: str, token: str, now_ns: int, expires_ns: int) -> None:
    """`token` lets `name` pair once, until it expires; an older one of the same vehicle no longer does."""
    _ensure_vehicle(connection, name, now_ns)
    connection.execute(delete(enrolment).where(enrolment.c.vehicle == name))
    values = {"token_sha256": _digest(token), "vehicle": name, "expires_ns": expires_ns}
    connection.execute(insert(enrolment).values(values))
    journal.append(connection, now_ns, "enrolled", name, f"for {(expires_ns - now_ns) / SECOND_NS:.0f} s")


def pair(connection: Connection, authority: Authority, token: str, csr: bytes, now_ns: int) -> Certificate:
    """Burns the token and records the certificate, or neither. Raises NotAdmitted, TooOften or pki.BadRequest.

    The key that burnt it may come again while the token lasts: its vehicle never got the answer.
    """
    key = key_digest(csr)
    if (name := _burn(connection, token, key, now_ns)) is None:
        name = _burnt_by(connection, token, key, now_ns)
        _check_pace(connection, name, now_ns, authority.vehicle_life_ns)
    return _issue(connection, authority, csr, name, now_ns, "paired")


def renew(connection: Connection, authority: Authority, who: Identity, csr: bytes, now_ns: int) -> Certificate:
    """A further certificate for a vehicle that shows a welcome one. Raises NotAdmitted, TooOften or pki.BadRequest."""
    check(connection, who, now_ns)
    _check_pace(connection, who.vehicle, now_ns, authority.vehicle_life_ns)
    return _issue(connection, authority, csr, who.vehicle, now_ns, "renewed")


def check(connection: Connection, who: Identity, now_ns: int) -> int:
    """Until when this certificate is welcome. Raises NotAdmitted unless it was issued here, is neither revoked nor
    expired."""
    row = connection.execute(select(credential).where(credential.c.serial == _hex(who.serial))).one_or_none()
    if row is None or row.vehicle != who.vehicle:
        raise NotAdmitted(f"The certificate of {who.vehicle} isn't one of this receiver's. Pair the vehicle again.")
    if row.revoked_ns is not None:
        raise NotAdmitted(f"The certificate of {who.vehicle} is revoked. Enrol and pair the vehicle again.")
    if row.not_after_ns <= now_ns:
        raise NotAdmitted(f"The certificate of {who.vehicle} has expired. Enrol and pair the vehicle again.")
    return int(row.not_after_ns)


def welcome(connection: Connection, names: Collection[str], now_ns: int) -> dict[str, bool]:
    """Of these vehicles those of this fleet, and whether each has a certificate neither revoked nor expired."""
    asked = sorted(names)
    known = {str(row[0]): False for row in connection.execute(select(vehicle.c.id).where(vehicle.c.id.in_(asked)))}
    live = credential.c.vehicle.in_(asked), credential.c.revoked_ns.is_(None), credential.c.not_after_ns > now_ns
    return known | {str(row[0]): True for row in connection.execute(select(credential.c.vehicle).where(*live))}


def mark_seen(connection: Connection, seen_ns: Mapping[str, int]) -> None:
    """When each of these vehicles was last connected or heard."""
    _MARK_SEEN.run(connection, *((at_ns, name) for name, at_ns in sorted(seen_ns.items())))


_MARK_SEEN = Prepared(
    lambda: update(vehicle).where(vehicle.c.id == bindparam("name")).values(seen_ns=bindparam("at_ns")),
    ["at_ns", "name"],
)


def report(connection: Connection, name: str, status: bytes, now_ns: int) -> None:
    """Keeps the vehicle's last status."""
    values = {"status": status, "status_ns": now_ns, "seen_ns": now_ns}
    connection.execute(update(vehicle).where(vehicle.c.id == name).values(values))


def last_report(connection: Connection, name: str) -> bytes | None:
    return connection.execute(select(vehicle.c.status).where(vehicle.c.id == name)).scalar_one_or_none()


def members(connection: Connection) -> list[str]:
    """Every vehicle that isn't revoked."""
    revoked = (
        select(credential.c.vehicle)
        .group_by(credential.c.vehicle)
        .having(func.count() == func.count(credential.c.revoked_ns))
    )
    rows = connection.execute(select(vehicle.c.id).where(vehicle.c.id.not_in(revoked)).order_by(vehicle.c.id))
    return [str(row.id) for row in rows]


def revoke(connection: Connection, name: str, now_ns: int) -> int:
    """Every certificate and token of the vehicle; how many certificates that were. Raises NotAdmitted."""
    if connection.execute(select(vehicle.c.id).where(vehicle.c.id == name)).first() is None:
        raise NotAdmitted(f"There is no vehicle {name} in this fleet. `outrider receiver fleet` lists them.")
    connection.execute(delete(enrolment).where(enrolment.c.vehicle == name))
    live = credential.c.vehicle == name, credential.c.revoked_ns.is_(None)
    revoked = connection.execute(update(credential).where(*live).values(revoked_ns=now_ns)).rowcount
    journal.append(connection, now_ns, "revoked", name, f"{revoked} certificates")
    return revoked


def fleet(connection: Connection, now_ns: int) -> list[Member]:
    """Every vehicle by name."""
    live = credential.c.revoked_ns.is_(None), credential.c.not_after_ns > now_ns
    counted = select(credential.c.vehicle, func.count()).where(*live).group_by(credential.c.vehicle)
    certificates = {row[0]: int(row[1]) for row in connection.execute(counted)}
    records = _records(connection)
    rows = connection.execute(select(vehicle).order_by(vehicle.c.id))
    return [
        Member(row.id, row.enrolled_ns, row.seen_ns, certificates.get(row.id, 0), records.get(row.id, {}))
        for row in rows
    ]


def _records(connection: Connection) -> dict[str, dict[Lane, int]]:
    stored = func.sum(coverage.c.end_seq - coverage.c.first_seq)
    lanes = select(coverage.c.vehicle, coverage.c.lane, stored).group_by(coverage.c.vehicle, coverage.c.lane)
    records: dict[str, dict[Lane, int]] = {}
    for name, lane, count in connection.execute(lanes.order_by(coverage.c.vehicle, coverage.c.lane)):
        records.setdefault(name, {})[Lane(lane)] = int(count)
    return records


def _burn(connection: Connection, token: str, key: bytes, now_ns: int) -> str | None:
    """Whom the token is for, None when it can't be burnt any more."""
    mine = enrolment.c.token_sha256 == _digest(token)
    # One statement: of two receivers on one database, that both saw it whole, one burns it.
    fit = mine, enrolment.c.used_by.is_(None), enrolment.c.expires_ns > now_ns
    if connection.execute(update(enrolment).where(*fit).values(used_by=key)).rowcount == 0:
        return None
    return str(connection.execute(select(enrolment.c.vehicle).where(mine)).scalar_one())


def _burnt_by(connection: Connection, token: str, key: bytes, now_ns: int) -> str:
    """Whom the token is for that `key` has burnt. Raises NotAdmitted."""
    mine = enrolment.c.token_sha256 == _digest(token)
    row = connection.execute(select(enrolment).where(mine)).one_or_none()
    if row is None:
        raise NotAdmitted("This token is none of this receiver's. Ask its operator for a new pairing file.")
    if row.expires_ns <= now_ns:
        raise NotAdmitted(f"This token of {row.vehicle} has expired. Ask the operator for a new pairing file.")
    if row.used_by != key:
        raise NotAdmitted(f"This token of {row.vehicle} was used already. Ask the operator for a new pairing file.")
    return str(row.vehicle)


def _check_pace(connection: Connection, name: str, now_ns: int, life_ns: int) -> None:
    # By what is in the database: a restart forgets nothing. Where certificates live shorter, they are renewed oftener.
    window_ns = min(_AT_ONCE_NS, life_ns)
    recent = credential.c.vehicle == name, credential.c.issued_ns.between(now_ns - window_ns + 1, now_ns)
    count, oldest_ns = connection.execute(select(func.count(), func.min(credential.c.issued_ns)).where(*recent)).one()
    if count >= CERTIFICATES_AT_ONCE:
        wait_s = (oldest_ns + window_ns - now_ns) / SECOND_NS
        raise TooOften(f"{name} was given {count} certificates within {window_ns / SECOND_NS:.0f} s. Wait.", wait_s)


def _issue(connection: Connection, authority: Authority, csr: bytes, name: str, now_ns: int, event: str) -> Certificate:
    issued = authority.issue(csr, name)
    serial = _hex(issued.serial)
    values = {"serial": serial, "vehicle": name, "issued_ns": now_ns, "not_after_ns": issued.not_after_ns}
    connection.execute(insert(credential).values(values | {"public_key": issued.public_key}))
    journal.append(connection, now_ns, event, name, f"serial {serial}")
    return issued


def _ensure_vehicle(connection: Connection, name: str, now_ns: int) -> None:
    if connection.execute(select(vehicle.c.id).where(vehicle.c.id == name)).first() is None:
        connection.execute(insert(vehicle).values(id=name, enrolled_ns=now_ns))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _hex(serial: int) -> str:
    return f"{serial:x}"
