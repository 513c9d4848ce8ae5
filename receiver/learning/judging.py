"""Which updates of stored blocks are taken, and by which name the others are refused. Pure: receiver/learning/books.py
has what is known, and writes what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ecu.errors import shown
from telemetry.federated.admission import Known, Verify, admit_update
from telemetry.federated.errors import Refusal, UpdateRefused
from telemetry.federated.plan import Plan
from telemetry.federated.update import ModelUpdate
from telemetry.records import Learned, Stored, decode_event
from telemetry.wire import BadBlock, unpack_block, unpack_body

ADMITTED: Final = "admitted"
WORDS_KEPT: Final = 200
REFUSED_AT_ONCE: Final = 64
"""Of one vehicle, in blocks that are judged together."""
KEYS_TRIED: Final = 16
"""Of a vehicle's newest: each one costs a garbled update's judge as much again."""


@dataclass(frozen=True, slots=True)
class LearnedBlock:
    """A block of the inbox, and its place in the queue."""

    place: int
    vehicle: str
    received_ns: int
    block: bytes


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A public key (DER) that one of the vehicle's certificates was issued for, and when that ended. Wall time."""

    public_key: bytes
    ended_ns: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the server knows: each plan's bases, numbered by aggregate; `sent` has seqs by (plan, vehicle); `keys` each
    vehicle's, the newest first."""

    plans: dict[str, Plan]
    bases: dict[str, dict[str, int]]
    sent: dict[tuple[str, str], frozenset[int]]
    keys: dict[str, tuple[IssuedKey, ...]]


@dataclass(frozen=True, slots=True)
class Judged:
    """One record. `plan` is empty where it names none of ours; `name` is ADMITTED, with the update, or a refusal's."""

    vehicle: str
    plan: str
    name: str
    words: str = ""
    update: ModelUpdate | None = None


def judge_blocks(blocks: Sequence[LearnedBlock], ledger: Ledger) -> list[Judged]:
    """One judgement a record, in the order of the blocks."""
    session = _Session(ledger)
    return [session.judge(block, record) for block in blocks for record in _records(block)]


class _Session:
    """What is known, and what came of it so far."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sent = dict(ledger.sent)
        self._refused: Counter[str] = Counter()

    def judge(self, block: LearnedBlock, record: Stored | None) -> Judged:
        vehicle = block.vehicle
        if self._refused[vehicle] >= REFUSED_AT_ONCE:
            # Each costs a signature's check, and a block may hold thousands: others' updates are waiting.
            words = f"after {REFUSED_AT_ONCE} refusals the rest isn't looked at"
            return Judged(vehicle, "", Refusal.EXCESSIVE, f"{Refusal.EXCESSIVE}: {words}")
        judged = self._judge(block, _update_in(record))
        if judged.update is None:
            self._refused[vehicle] += 1
        else:
            self._sent[judged.plan, vehicle] = self._seqs(judged.plan, vehicle) | {judged.update.seq}
        return judged

    def _judge(self, block: LearnedBlock, update: ModelUpdate | None) -> Judged:
        vehicle, ledger = block.vehicle, self._ledger
        if update is None:
            return Judged(vehicle, "", Refusal.MALFORMED, f"{Refusal.MALFORMED}: it is no update")
        plan = update.plan if update.plan in ledger.plans else ""
        bases = ledger.bases.get(plan, {})
        known = Known(ledger.plans, bases, max(bases.values(), default=0), self._seqs(plan, vehicle))
        try:
            admit_update(vehicle, update, verifier(ledger.keys.get(vehicle, ()), block.received_ns), known)
        except UpdateRefused as refused:
            return Judged(vehicle, plan, refused.refusal, _words(str(refused)))
        return Judged(vehicle, plan, ADMITTED, update=update)

    def _seqs(self, plan: str, vehicle: str) -> frozenset[int]:
        return self._sent.get((plan, vehicle), frozenset())


def _records(block: LearnedBlock) -> Sequence[Stored | None]:
    try:
        return unpack_body(*unpack_block(block.block))
    except BadBlock:
        # An older version took it, and this one doesn't read it: all of it counts as one.
        return [None]


def _update_in(record: Stored | None) -> ModelUpdate | None:
    try:
        event = decode_event(record.event) if record is not None else None
    except msgspec.DecodeError:
        return None
    return event.update if isinstance(event, Learned) else None


def _words(words: str) -> str:
    """Whatever a vehicle wrote into its update, an audit entry holds it and a terminal shows it."""
    return shown(words[:WORDS_KEPT])


def verifier(keys: Sequence[IssuedKey], received_ns: int) -> Verify:
    """Whether one of the keys signed it whose certificate was valid when it came: a vehicle's key may be renewed while
    what it signed waits in the spool."""

    def verify(message: bytes, signature: bytes) -> bool:
        return any(_signed(key, message, signature) for key in _valid(keys, received_ns))

    return verify


def _valid(keys: Sequence[IssuedKey], received_ns: int) -> Iterator[bytes]:
    valid = (key.public_key for key in keys if received_ns < key.ended_ns)
    yield from list(dict.fromkeys(valid))[:KEYS_TRIED]


def _signed(public_key: bytes, message: bytes, signature: bytes) -> bool:
    key = serialization.load_der_public_key(public_key)
    assert isinstance(key, ec.EllipticCurvePublicKey), "certificates are issued for no other"
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
