"""MQTT 5's reason codes (section 2.4) as the decisions that they call for."""

from __future__ import annotations

from typing import Final

from telemetry.links.link import Acks, Refused, Throttled, Unauthorized, Unreachable

FAILED: Final = 0x80
NOT_WELCOME: Final = (0x86, 0x87, 0x8A)  # bad user name or password, not authorized, banned
THROTTLED_S: Final = 2.0
NOBODY_BEHIND_S: Final = 30.0
BROKER_FAILED_S: Final = 10.0
_NO_SUBSCRIBERS: Final = 0x10
_QUOTA: Final = 0x97
_PAYLOAD_INVALID: Final = 0x99


def raise_unless_taken(code: int, words: str, broker: Acks | None = None) -> None:
    """A PUBACK's reason: returns, or raises Throttled, Unauthorized or Refused.

    `broker` says what the word of a broker in between means; None: the receiver itself has answered. What a broker has
    against a message passes: behind one only the receiver's refusal puts a block away for good (docs/formats/wire.md),
    and where nobody is behind it, only its word on the bytes themselves.
    """
    if code == _NO_SUBSCRIBERS:
        raise Throttled("The broker has no receiver behind it and would drop the block.", NOBODY_BEHIND_S)
    if code < FAILED:
        return
    if code == _QUOTA:
        raise Throttled(f"The receiver asks for patience: {words}.", THROTTLED_S)
    if code in NOT_WELCOME:
        raise Unauthorized(f"This vehicle may not publish there: {words}.")
    if broker is None or (broker is Acks.ACCEPTED and code == _PAYLOAD_INVALID):
        raise Refused(f"{'The receiver' if broker is None else 'The broker'} will never take these bytes: {words}.")
    raise Throttled(f"The broker didn't take the block: {words}. It is sent again.", BROKER_FAILED_S)


def turned_away(code: int, words: str, host: str, vehicle: str) -> Unauthorized | Unreachable:
    """A CONNACK's reason."""
    if code in NOT_WELCOME:
        return Unauthorized(f"{host} turned {vehicle} away: {words}")
    return Unreachable(f"{host} can't take {vehicle} now: {words}. The link will try again.")


def deaf(host: str, vehicle: str) -> Unauthorized:
    """A SUBACK said no."""
    return Unauthorized(f"{host} doesn't let {vehicle} hear its own receipts. Pair the vehicle again.")
