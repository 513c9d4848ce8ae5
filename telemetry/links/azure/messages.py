"""What a vehicle and its receiver say to each other through an IoT hub: docs/formats/hub.md.

Up go telemetry messages, each a block, its lane a property. Down come direct methods: `receipt` with what the receiver
has stored and what it won't store, `hint` to go and look.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from telemetry.links.link import Hint, Refused
from telemetry.records import Lane
from telemetry.wire import (
    MAX_HINT_CHARACTERS,
    BadBlock,
    Receipt,
    Refusal,
    pack_receipt,
    pack_refusal,
    unpack_receipt,
    unpack_refusal,
)

LANE: Final = "lane"
"""Application property of a message."""
RECEIPT_METHOD: Final = "receipt"
HINT_METHOD: Final = "hint"
TWIN_SECTION: Final = "outrider"
"""Our part of a device twin; whatever else is in it is somebody else's."""

MAX_MESSAGE_BYTES: Final = 256 * 1024
MAX_METHOD_BYTES: Final = 128 * 1024
MAX_REPORTED_BYTES: Final = 32 * 1024
_MAX_TWIN_STRING_BYTES: Final = 4096
_MAX_TWIN_INTEGER: Final = (1 << 52) - 1
_MAX_TWIN_DEPTH: Final = 8


class _Answers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    receipts: list[str] = []
    refusals: list[str] = []


def pack_answers(receipts: list[Receipt], refusals: list[Refusal]) -> dict[str, list[str]]:
    """The payload of a `receipt` call: plain values for JSON."""
    return {
        "receipts": [base64.b64encode(pack_receipt(receipt)).decode() for receipt in receipts],
        "refusals": [base64.b64encode(pack_refusal(refusal)).decode() for refusal in refusals],
    }


def unpack_answers(payload: object) -> tuple[list[Receipt], list[Refusal]]:
    """Raises BadBlock unless every part of it makes sense."""
    try:
        answers = msgspec.convert(payload, _Answers)
        receipts = [base64.b64decode(packed, validate=True) for packed in answers.receipts]
        refusals = [base64.b64decode(packed, validate=True) for packed in answers.refusals]
    except (msgspec.ValidationError, ValueError) as error:  # binascii.Error is a ValueError
        raise BadBlock(f"not the answers of a receiver: {error}") from error
    return [unpack_receipt(packed) for packed in receipts], [unpack_refusal(packed) for packed in refusals]


def hint_of(payload: object) -> Hint:
    """A `hint` call's. Raises BadBlock."""
    if not isinstance(payload, str) or not payload.isascii() or not 0 < len(payload) <= MAX_HINT_CHARACTERS:
        raise BadBlock(f"a hint has 1 to {MAX_HINT_CHARACTERS} ASCII characters")
    return Hint(payload)


def hint_of_desired(patch: object) -> Hint | None:
    """What a change of the desired properties hints at: `outrider.hint` names it, any other of ours is "twin"."""
    if not isinstance(patch, Mapping) or TWIN_SECTION not in patch:
        return None
    ours = patch[TWIN_SECTION]
    try:
        return hint_of(ours["hint"]) if isinstance(ours, Mapping) and "hint" in ours else Hint("twin")
    except BadBlock:
        return Hint("twin")


def properties_of(lane: Lane) -> dict[str, str]:
    return {LANE: lane.name.lower()}


def lane_of(properties: Mapping[str, object]) -> Lane | None:
    """None when no lane of ours is named."""
    return next((lane for lane in Lane if lane.name.lower() == properties.get(LANE)), None)


def reported_of(status: bytes) -> dict[str, Any]:
    """A status as reported properties, within what a twin can hold: integers to 52 bits (larger ones become text),
    strings to 4 KiB, eight levels, no "$", "." or blank in a name.

    Raises Refused for more than 32 KiB, or what is no JSON object.
    """
    try:
        told = msgspec.json.decode(status, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise Refused(f"A status is a JSON object: {error}.") from error
    reported = {TWIN_SECTION: _within_a_twin(told, _MAX_TWIN_DEPTH)}
    if (size := len(json.dumps(reported))) > MAX_REPORTED_BYTES:
        raise Refused(f"{size} bytes of status are more than a device twin's {MAX_REPORTED_BYTES}.")
    return reported


def _within_a_twin(value: object, levels: int) -> object:
    match value:
        case dict() | list() if levels == 0:
            return _cut(json.dumps(value))
        case dict():
            return {_name(str(name)): _within_a_twin(part, levels - 1) for name, part in value.items()}
        case list():
            return [_within_a_twin(part, levels - 1) for part in value]
        case str():
            return _cut(value)
        case int() if abs(value) > _MAX_TWIN_INTEGER:
            return str(value)
        case _:
            return value


def _name(name: str) -> str:
    return "".join("_" if letter in "$." or letter.isspace() or not letter.isprintable() else letter for letter in name)


def _cut(text: str) -> str:
    return text.encode()[:_MAX_TWIN_STRING_BYTES].decode(errors="ignore")
