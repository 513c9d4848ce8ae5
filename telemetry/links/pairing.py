"""What a vehicle and its receiver say to pair, to renew and to agree on the time: docs/formats/pairing.md."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from telemetry.records import TelemetryError

PAIR_PATH: Final = "/v1/pair"
RENEW_PATH: Final = "/v1/renew"
TIME_PATH: Final = "/v1/time"
WELCOME_PATH: Final = "/v1/welcome"
MAX_MESSAGE_BYTES: Final = 16 * 1024

_VEHICLE = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
_NONCE = re.compile(r"[0-9a-f]{32,64}")
_TIME_PREFIX = b"outrider-time-1\n"

T = TypeVar("T")


class BadMessage(TelemetryError):
    """These bytes aren't the message that they should be."""


class PairingFile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="format", tag="outrider-pairing-1"
):
    """What the operator hands to one vehicle, once: where its receiver is, how to know it, and a token to be let in."""

    vehicle: str
    host: str
    mqtt_port: int
    https_port: int
    ca: str  # PEM
    token: str
    expires: str  # RFC 3339, UTC, by the receiver's clock
    # The first root of each update repository (docs/formats/repository.md); empty: this vehicle gets no updates.
    director_root: str = ""
    image_root: str = ""


class PairRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str
    csr: str  # PKCS #10, PEM


class RenewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    csr: str


class Issued(msgspec.Struct, frozen=True):
    """The answer to both."""

    vehicle: str
    certificate: str  # PEM


class Welcome(msgspec.Struct, frozen=True):
    """The certificate that was shown is let in; whose it is."""

    vehicle: str


class TimeAnswer(msgspec.Struct, frozen=True):
    """The receiver's wall clock, signed for this nonce by the authority: hex of an ECDSA signature in DER."""

    wall_ns: int
    nonce: str
    signature: str


class Refusal(msgspec.Struct, frozen=True):
    """Any other answer, in words for people."""

    error: str


def is_vehicle_id(name: str) -> bool:
    """3 to 63 of a-z, 0-9 and "-", not "-" first: safe in a topic, a file name and a certificate."""
    return _VEHICLE.fullmatch(name) is not None


def is_nonce(text: str) -> bool:
    """16 to 32 bytes in hex."""
    return _NONCE.fullmatch(text) is not None


def time_message(nonce: str, wall_ns: int) -> bytes:
    """What is signed. The prefix keeps the signature from meaning anything else."""
    return _TIME_PREFIX + f"{nonce}\n{wall_ns}\n".encode()


def read_message(data: bytes, kind: type[T]) -> T:
    """Raises BadMessage, saying what is wrong with it."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:  # msgspec's own errors, and UnicodeDecodeError
        raise BadMessage(f"not a {kind.__name__}: {error}") from error
