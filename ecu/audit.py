"""The audit chain of vehicle and receiver: each entry carries the digest of the one before, so that none can be changed
or taken out unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. `subject` is whom it concerns; "" is the writer itself."""

    seq: int
    wall_ns: int
    event: str
    subject: str
    detail: str
    previous: bytes
    digest: bytes


def link(previous: Entry | None, wall_ns: int, event: str, subject: str, detail: str) -> Entry:
    """The entry that follows `previous`."""
    seq = previous.seq + 1 if previous else 1
    before = previous.digest if previous else GENESIS
    return Entry(seq, wall_ns, event, subject, detail, before, _digest(seq, wall_ns, event, subject, detail, before))


def first_break(entries: Iterable[Entry], previous: Entry | None = None) -> int | None:
    """The seq at which the chain, continued from `previous`, is broken; None when it is whole."""
    for entry in entries:
        if entry != link(previous, entry.wall_ns, entry.event, entry.subject, entry.detail):
            return entry.seq
        previous = entry
    return None


def _digest(seq: int, wall_ns: int, event: str, subject: str, detail: str, previous: bytes) -> bytes:
    # msgpack gives each field its length: no two entries share their bytes.
    return hashlib.sha256(msgspec.msgpack.encode([seq, wall_ns, event, subject, detail, previous])).digest()
