"""Heads of audit chains that vehicles have signed, and what they say of ours: docs/formats/audit.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select

from ecu.checkpoints import Head, contradiction, head_of, is_signed_by, message
from ecu.clock import SECOND_NS
from receiver import journal
from receiver.admission import check
from receiver.answers import AuditVerdict
from receiver.pki import Authority, Identity, key_der
from receiver.store import Store
from receiver.tables import audit, audit_checkpoint, credential
from telemetry.links.checkpoints import CheckpointAnswer, CheckpointRequest
from telemetry.links.pairing import BadMessage

KEPT: Final = 64
"""Of each vehicle, the newest."""
CONTRADICTED: Final = "audit_contradicted"
STANDS_NS: Final = 30 * 86_400 * SECOND_NS
"""An alarm about one of the two audits, by one vehicle, stands for so long: meanwhile there is no other."""
_OURS: Final = "of this receiver's audit"
_ITS: Final = "its audit"
_PAGE: Final = 1000

Finding = tuple[str, str]
"""A vehicle, and what is wrong by its word."""


def exchange(
    connection: Connection, authority: Authority, who: Identity, asked: CheckpointRequest, now_ns: int
) -> CheckpointAnswer:
    """Keeps what the vehicle signed, and signs its head and ours. What contradicts an earlier head of either side is
    an alarm in the journal. Raises NotAdmitted; BadMessage where its own key hasn't signed it, or we haven't signed
    what it says it has seen."""
    check(connection, who, now_ns)
    key = _demand_signed(connection, authority, who, asked)
    last = _last(connection, who.vehicle)
    row = {
        "vehicle": who.vehicle, "own_seq": asked.head.seq, "own_digest": asked.head.digest,
        "seen_seq": asked.seen.seq, "seen_digest": asked.seen.digest,
    }  # fmt: skip
    for side, words in _alarms(connection, asked, last):
        _alarm(connection, who.vehicle, side, words, now_ns)
    if last is None or any(last._mapping[name] != value for name, value in row.items()):
        signed = {"signature": _bytes(asked.signature), "public_key": key, "signed_ns": now_ns}
        connection.execute(insert(audit_checkpoint).values(row | signed))
        _prune(connection, who.vehicle)
    ours = head_of(next(iter(journal.tail(connection, 1)), None))
    signature = authority.sign(message(who.vehicle, asked.head, ours)).hex()
    return CheckpointAnswer(who.vehicle, asked.head, ours, now_ns, signature)


def _demand_signed(connection: Connection, authority: Authority, who: Identity, asked: CheckpointRequest) -> bytes:
    """The key of its certificate, which has signed this. Raises BadMessage."""
    key = connection.execute(
        select(credential.c.public_key).where(credential.c.serial == f"{who.serial:x}")
    ).scalar_one()
    if key is None or not is_signed_by(key, message(who.vehicle, asked.head, asked.seen), _bytes(asked.signature)):
        raise BadMessage("the checkpoint isn't signed by the key of the certificate")
    told = message(who.vehicle, asked.told_for, asked.seen)
    # A head that it made up would accuse this receiver of a rewritten audit, in an alarm and in every verification.
    if asked.seen != Head() and not is_signed_by(_own_key(authority), told, _bytes(asked.told_signature)):
        raise BadMessage(f"entry {asked.seen.seq}, which was seen of this receiver's audit, isn't signed by it")
    return bytes(key)


def _own_key(authority: Authority) -> bytes:
    return key_der(authority.certificate.public_key())


async def verify(store: Store, authority: Authority, held: Sequence[CheckpointAnswer]) -> AuditVerdict:
    """The whole chain in itself, and against all that vehicles have signed of it; `held` is what vehicles kept, for a
    database whose checkpoints were taken out, too."""
    broken, findings = await journal.broken_at(store), list[str]()
    if broken is not None:
        findings.append(f"the chain is broken at entry {broken}")
    entries, head = await store.transact(_size)
    after, signed, theirs = 0, 0, list[Finding]()
    while rows := await store.transact(_page, after):
        theirs += await store.transact(_against_vehicles, rows)
        after, signed = rows[-1].id, signed + len(rows)
    findings += _by_vehicle(theirs)
    findings += _by_vehicle(await store.transact(_against_held, held, _own_key(authority)))
    return AuditVerdict(entries, head.seq, head.digest, signed + len(held), findings)


def _by_vehicle(findings: Iterable[Finding]) -> list[str]:
    """The first of each: a vehicle with many to tell must not hide what others do."""
    told: dict[str, list[str]] = {}
    for vehicle, words in findings:
        told.setdefault(vehicle, []).append(words)
    return [its[0] + (f", and {len(its) - 1} more by {vehicle}" if its[1:] else "") for vehicle, its in told.items()]


def _against_vehicles(connection: Connection, rows: Sequence[Row[Any]]) -> list[Finding]:
    found = list[Finding]()
    for row in rows:
        own, seen = Head(row.own_seq, row.own_digest), Head(row.seen_seq, row.seen_digest)
        if not is_signed_by(row.public_key, message(row.vehicle, own, seen), row.signature):
            found.append((row.vehicle, f"checkpoint {row.id} of {row.vehicle} isn't what it signed"))
        elif (words := contradiction(seen, lambda seq: _digest_at(connection, seq))) is not None:
            found.append((row.vehicle, f"{words}, as {row.vehicle} has signed"))
    return found


def _against_held(connection: Connection, held: Sequence[CheckpointAnswer], key: bytes) -> list[Finding]:
    found = list[Finding]()
    for one in held:
        if not is_signed_by(key, message(one.vehicle, one.head, one.receiver), _bytes(one.signature)):
            unsigned = f"what {one.vehicle} holds of entry {one.receiver.seq} isn't signed by this receiver"
            found.append((one.vehicle, unsigned))
        elif (words := contradiction(one.receiver, lambda seq: _digest_at(connection, seq))) is not None:
            found.append((one.vehicle, f"{words}, as this receiver has signed for {one.vehicle}"))
    return found


def _alarms(connection: Connection, asked: CheckpointRequest, last: Row[Any] | None) -> list[tuple[str, str]]:
    """Whose audit, and what is wrong with it."""
    found = list[tuple[str, str]]()
    if (words := contradiction(asked.seen, lambda seq: _digest_at(connection, seq))) is not None:
        found.append((_OURS, words))
    if last is not None and asked.head.seq < last.own_seq:
        found.append((_ITS, f"ends at entry {asked.head.seq}, and ended at {last.own_seq} before"))
    if last is not None and asked.head.seq == last.own_seq and asked.head.digest != last.own_digest:
        found.append((_ITS, f"has another entry {asked.head.seq} than before"))
    return found


def _alarm(connection: Connection, vehicle: str, side: str, words: str, now_ns: int) -> None:
    """Unless one stands: a vehicle asks again every hour, and may say something else each time."""
    mine = audit.c.event == CONTRADICTED, audit.c.subject == vehicle, audit.c.detail.startswith(side, autoescape=True)
    if connection.execute(select(audit.c.seq).where(*mine, audit.c.wall_ns > now_ns - STANDS_NS).limit(1)).first():
        return
    journal.append(connection, now_ns, CONTRADICTED, vehicle, f"{side} {words}")


def _digest_at(connection: Connection, seq: int) -> str | None:
    digest = connection.execute(select(audit.c.digest).where(audit.c.seq == seq)).scalar_one_or_none()
    return digest.hex() if digest is not None else None


def _size(connection: Connection) -> tuple[int, Head]:
    count = connection.execute(select(func.count()).select_from(audit)).scalar_one()
    return int(count), head_of(next(iter(journal.tail(connection, 1)), None))


def _page(connection: Connection, after: int) -> list[Row[Any]]:
    wanted = select(audit_checkpoint).where(audit_checkpoint.c.id > after)
    return list(connection.execute(wanted.order_by(audit_checkpoint.c.id).limit(_PAGE)))


def _last(connection: Connection, vehicle: str) -> Row[Any] | None:
    mine = select(audit_checkpoint).where(audit_checkpoint.c.vehicle == vehicle)
    return connection.execute(mine.order_by(audit_checkpoint.c.id.desc()).limit(1)).one_or_none()


def _prune(connection: Connection, vehicle: str) -> None:
    its = audit_checkpoint.c
    newest = select(its.id).where(its.vehicle == vehicle).order_by(its.id.desc()).limit(KEPT)
    connection.execute(delete(audit_checkpoint).where(its.vehicle == vehicle, its.id.not_in(newest)))


def _bytes(text: str) -> bytes:
    """Raises BadMessage."""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadMessage("a signature is hex") from error
