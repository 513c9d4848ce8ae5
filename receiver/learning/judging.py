"""Which updates of stored blocks are taken, and by which name the others are refused. Pure: receiver/learning/books.py
has what is known, and writes what comes of it."""

from __future__ import annotations

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
    sent, judged = dict(ledger.sent), []
    for block in blocks:
        for one in _judge_block(block, ledger, sent):
            judged.append(one)
            if one.update is not None:
                key = one.plan, one.vehicle
                sent[key] = sent.get(key, frozenset()) | {one.update.seq}
    return judged


def _judge_block(block: LearnedBlock, ledger: Ledger, sent: dict[tuple[str, str], frozenset[int]]) -> Iterator[Judged]:
    """`sent` may grow from one to the next."""
    try:
        records = unpack_body(*unpack_block(block.block))
    except BadBlock as error:
        # An older version took it, and this one doesn't read it.
        yield Judged(block.vehicle, "", Refusal.MALFORMED, _words(f"{Refusal.MALFORMED}: {error}"))
        return
    for record in records:
        yield _judge(block, record, ledger, sent)


def _judge(block: LearnedBlock, record: Stored, ledger: Ledger, sent: dict[tuple[str, str], frozenset[int]]) -> Judged:
    vehicle = block.vehicle
    try:
        event = decode_event(record.event)
    except (msgspec.DecodeError, RecursionError) as error:
        return Judged(vehicle, "", Refusal.MALFORMED, _words(f"{Refusal.MALFORMED}: it is no record: {error}"))
    if not isinstance(event, Learned):
        return Judged(vehicle, "", Refusal.MALFORMED, f"{Refusal.MALFORMED}: it is no update")
    update = event.update
    plan = update.plan if update.plan in ledger.plans else ""
    bases = ledger.bases.get(plan, {})
    known = Known(ledger.plans, bases, max(bases.values(), default=0), sent.get((plan, vehicle), frozenset()))
    try:
        admit_update(vehicle, update, verifier(ledger.keys.get(vehicle, ()), block.received_ns), known)
    except UpdateRefused as refused:
        return Judged(vehicle, plan, refused.refusal, _words(str(refused)))
    return Judged(vehicle, plan, ADMITTED, update=update)


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
