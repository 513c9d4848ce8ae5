"""The vehicle's audit signed by its receiver, and the receiver's by the vehicle (docs/formats/audit.md).

What the receiver signed is kept in `audit-seen.json`: with it anybody can show that the receiver's audit was rewritten,
or this vehicle's.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agent.folders import UPDATES_FOLDER
from agent.pairing import Paired, countersign
from ecu.checkpoints import Head, contradiction, head_of, message
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
    told = seen[-1].receiver if seen else Head()
    signature = keys.sign(message(paired.vehicle, head, told)).hex()
    answer = countersign(paired, keys, clock, CheckpointRequest(head, told, signature))
    if (answer.receiver.seq, answer.receiver.digest) != (told.seq, told.digest):
        _demand_grown(paired, told, answer.receiver)
    if not seen or (seen[-1].head, seen[-1].receiver) != (answer.head, answer.receiver):
        replace_file(disk, SEEN_FILE, msgspec.json.encode([*seen, answer][-KEPT:]))
    return answer


def load_seen(disk: Disk) -> list[CheckpointAnswer]:
    """What the receiver signed, oldest first. Raises Contradicted where somebody changed it."""
    if not disk.exists(SEEN_FILE):
        return []
    try:
        return msgspec.json.decode(disk.read(SEEN_FILE), type=list[CheckpointAnswer])
    except (ValueError, RecursionError) as error:
        raise Contradicted(f"{SEEN_FILE} holds no checkpoints: {error}. Restore it from a copy.") from error


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
