"""Checkpoints of two audit chains, each signed by the other side: so neither can rewrite what the other has seen.

A chain with recomputed digests holds in itself; only who signed its head before knows that it was another one. What is
signed names both heads and the vehicle, so one signature a side stands for both chains. docs/formats/audit.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ecu.audit import Entry

_PREFIX: Final = b"outrider-audit-1\n"


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last entry of a chain, its digest in hex; 0 and "" before the first. Nothing else may be told as one: a line
    feed in a digest would make the text that is signed mean two things."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] = 0
    digest: Annotated[str, msgspec.Meta(pattern=r"^(?:[0-9a-f]{64})?\Z")] = ""


def head_of(entry: Entry | None) -> Head:
    return Head(entry.seq, entry.digest.hex()) if entry is not None else Head()


def message(vehicle: str, own: Head, receiver: Head) -> bytes:
    """What both sides sign: the vehicle's head and the receiver's. The prefix keeps it from meaning anything else."""
    lines = (vehicle, str(own.seq), own.digest, str(receiver.seq), receiver.digest)
    return _PREFIX + "".join(f"{line}\n" for line in lines).encode()


def contradiction(head: Head, digest_at: Callable[[int], str | None]) -> str | None:
    """What is wrong with a chain of which this head was seen; None where it still holds. `digest_at` gives what the
    chain has at a number, in hex, None for nothing."""
    if head.seq == 0:
        return None
    found = digest_at(head.seq)
    if found is None:
        return f"entry {head.seq} is gone, which was {head.digest[:16]}"
    return None if found == head.digest else f"entry {head.seq} is {found[:16]}, and was {head.digest[:16]}"


def is_signed_by(public_key: bytes, signed: bytes, signature: bytes) -> bool:
    """By this ECDSA key (DER, SubjectPublicKeyInfo), with SHA-256."""
    key = serialization.load_der_public_key(public_key)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
