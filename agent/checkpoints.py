"""The vehicle's audit signed by its receiver, and the receiver's by the vehicle (docs/formats/audit.md).

What the receiver signed is kept in `audit-seen.json`: with it anybody can show that the receiver's audit was rewritten,
or this vehicle's.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from agent.folders import UPDATES_FOLDER
from agent.pairing import Paired, countersign
from ecu.audit import Entry, first_break
from ecu.checkpoints import Head, contradiction, head_of, is_signed_by, message
from ecu.clock import Clock
from ecu.disk import Disk, FolderDisk, replace_file
from ecu.errors import OutriderError
from ecu.keys import KeyStore
from ota.audit import Audit
from telemetry.links.checkpoints import CheckpointAnswer, CheckpointRequest

SEEN_FILE: Final = "audit-seen.json"
KEPT: Final = 64


class Contradicted(OutriderError):
    """One of the two audits isn't the one that was signed before. The message says which."""


def checkpoint(paired: Paired, keys: KeyStore, clock: Clock, disk: Disk) -> CheckpointAnswer:
    """`disk` is the vehicle's state. Durable when it returns. Raises Contradicted, DiskError, and as `countersign`
    does. It blocks: give it a thread."""
    seen = load_seen(disk)
    audit = Audit(FolderDisk(disk, UPDATES_FOLDER), clock, paired.vehicle)
    _demand_whole(audit, seen)
    head = head_of(audit.entries()[-1] if audit.entries() else None)
    last = _last_told(paired, seen)
    told = last.receiver if last is not None else Head()
    asked = CheckpointRequest(head, told, keys.sign(message(paired.vehicle, head, told)).hex())
    if last is not None:
        asked = msgspec.structs.replace(asked, told_for=last.head, told_signature=last.signature)
    answer = countersign(paired, keys, clock, asked)
    if (answer.receiver.seq, answer.receiver.digest) != (told.seq, told.digest):
        _demand_grown(paired, told, answer.receiver)
    if not seen or (seen[-1].head, seen[-1].receiver) != (answer.head, answer.receiver):
        replace_file(disk, SEEN_FILE, msgspec.json.encode([*seen, answer][-KEPT:]))
    return answer


def _last_told(paired: Paired, seen: list[CheckpointAnswer]) -> CheckpointAnswer | None:
    """By the receiver of now: what another one told, before this pairing, it would take for invented."""
    key = _authority_key(paired)
    return next((one for one in reversed(seen) if _is_of(one, paired.vehicle, key)), None)


def load_seen(disk: Disk) -> list[CheckpointAnswer]:
    """What the receiver signed, oldest first. Raises Contradicted where somebody changed it."""
    if not disk.exists(SEEN_FILE):
        return []
    try:
        return msgspec.json.decode(disk.read(SEEN_FILE), type=list[CheckpointAnswer])
    except (ValueError, RecursionError) as error:
        raise Contradicted(f"{SEEN_FILE} holds no checkpoints: {error}. Restore it from a copy.") from error


class Verdict(msgspec.Struct, frozen=True):
    """Of this vehicle's audit: how many entries are kept, and how many heads of it the receiver signed. `findings` is
    empty where nobody changed it."""

    entries: int
    checkpoints: int
    head_seq: int
    head_digest: str
    findings: list[str]


def verify(paired: Paired, clock: Clock, disk: Disk, seen: list[CheckpointAnswer] | None = None) -> Verdict:
    """The chain in itself, and against all that the receiver signed of it: what lies here, or `seen`, a copy of it that
    was kept elsewhere. Touches nothing. Raises Contradicted where that can't be read; DiskError."""
    held = load_seen(disk) if seen is None else seen
    audit = Audit(FolderDisk(disk, UPDATES_FOLDER), clock, paired.vehicle)
    entries = audit.kept()
    head = head_of(entries[-1] if entries else None)
    older = [f"entries before {entries[0].seq} were taken out"] if audit.lacks_older() else []
    findings = [*older, *_broken(entries), *_against_receiver(paired, entries, held)]
    return Verdict(len(entries), len(held), head.seq, head.digest, findings)


def _broken(entries: tuple[Entry, ...]) -> list[str]:
    """The oldest follows from one that went with an older file, and that only checkpoints can tell of."""
    is_first = not entries or entries[0].seq == 1
    broken = first_break(entries) if is_first else first_break(entries[1:], entries[0])
    return [f"the chain is broken at entry {broken}"] if broken is not None else []


def _against_receiver(paired: Paired, entries: tuple[Entry, ...], held: list[CheckpointAnswer]) -> list[str]:
    key = _authority_key(paired)
    digests = {entry.seq: entry.digest.hex() for entry in entries}
    oldest, found = min(digests, default=1), list[str]()
    for one in held:
        if not _is_of(one, paired.vehicle, key):
            found.append(f"what is kept of entry {one.head.seq} isn't signed by {paired.host} for {paired.vehicle}")
        elif one.head.seq >= oldest and (words := contradiction(one.head, digests.get)) is not None:
            found.append(f"{words}, as {paired.host} has signed")
    return found


def _authority_key(paired: Paired) -> bytes:
    authority = load_pem_x509_certificate(paired.ca.encode()).public_key()
    return authority.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_of(one: CheckpointAnswer, vehicle: str, key: bytes) -> bool:
    try:
        signature = bytes.fromhex(one.signature)
    except ValueError:
        return False
    return one.vehicle == vehicle and is_signed_by(key, message(vehicle, one.head, one.receiver), signature)


def _demand_whole(audit: Audit, seen: list[CheckpointAnswer]) -> None:
    """This vehicle's own chain holds, and still has what was signed of it."""
    if (broken := audit.first_break()) is not None:
        raise Contradicted(f"this vehicle's audit is broken at entry {broken}")
    digests = {entry.seq: entry.digest.hex() for entry in audit.entries()}
    oldest = min(digests, default=1)
    for one in seen:
        # What was before lies in the older file, or is gone with it.
        if one.head.seq >= oldest and (words := contradiction(one.head, digests.get)) is not None:
            raise Contradicted(f"of this vehicle's audit {words}, as {one.vehicle}'s receiver has signed")


def _demand_grown(paired: Paired, told: Head, now: Head) -> None:
    if now.seq <= told.seq:
        raise Contradicted(
            f"the audit of {paired.host} ends at entry {now.seq} ({now.digest[:16]}), and ended at {told.seq} "
            f"({told.digest[:16]}) before"
        )
