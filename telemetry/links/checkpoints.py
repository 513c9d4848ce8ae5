"""What a vehicle and its receiver say to countersign each other's audit: docs/formats/audit.md."""

from __future__ import annotations

from typing import Final

import msgspec

from ecu.checkpoints import Head

CHECKPOINT_PATH: Final = "/v1/audit/checkpoint"


class CheckpointRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The vehicle's head, the last head of the receiver's that it was told, and its signature over both, hex.

    `told_for` and `told_signature` are of the answer that told it `seen`: the head it was for and the authority's
    signature. Without an answer so far all three are empty."""

    head: Head
    seen: Head
    signature: str
    told_for: Head = Head()
    told_signature: str = ""


class CheckpointAnswer(msgspec.Struct, frozen=True):
    """The vehicle's head as it was told, the receiver's own, and the authority's signature over both, hex. A vehicle
    keeps it: it is what the receiver can't take back."""

    vehicle: str
    head: Head
    receiver: Head
    wall_ns: int
    signature: str
