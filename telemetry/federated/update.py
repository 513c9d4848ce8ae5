"""What one vehicle learned, as it is signed and told. docs/formats/federated.md has the fields and golden vectors."""

from __future__ import annotations

from typing import Final

import msgspec

MAX_PAYLOAD_BYTES: Final = 64 * 1024
"""The largest change that anybody tells or takes."""

_DOMAIN: Final = b"outrider model update v1\n"


class ModelUpdate(msgspec.Struct, frozen=True):
    """`seq` counts this vehicle's updates of the plan, from 1; `signature` is its identity key's over all the rest."""

    plan: str
    base: str
    graph: str
    layout: str
    seq: int
    payload: bytes
    signature: bytes = b""


_encoder = msgspec.msgpack.Encoder(order="deterministic")


def signed_part(update: ModelUpdate) -> bytes:
    """The bytes that the vehicle signs: a fixed line, then the update as MessagePack with an empty signature."""
    return _DOMAIN + _encoder.encode(msgspec.structs.replace(update, signature=b""))
