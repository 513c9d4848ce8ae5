"""The vehicle's side of pairing, renewal and signed time (docs/formats/pairing.md).

Only the authority in the pairing file is trusted: no system trust store, and nobody at first sight. The key is made on
this computer and never leaves it. Everything here blocks, each call within its time-out: give it a thread.
"""

from __future__ import annotations

import http.client
import secrets
import ssl
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ecu.checkpoints import is_signed_by, message
from ecu.clock import Clock
from ecu.disk import Disk, replace_file
from ecu.errors import OutriderError, UsageFault
from ecu.keys import KeyStore
from telemetry.links.checkpoints import CHECKPOINT_PATH, CheckpointAnswer, CheckpointRequest
from telemetry.links.link import Throttled, Unreachable, Untrusted
from telemetry.links.pairing import (
    MAX_MESSAGE_BYTES,
    PAIR_PATH,
    RENEW_PATH,
    TIME_PATH,
    WELCOME_PATH,
    BadMessage,
    Issued,
    PairingFile,
    PairRequest,
    Refusal,
    RenewRequest,
    TimeAnswer,
    Welcome,
    is_vehicle_id,
    read_message,
    time_message,
)
from telemetry.links.tls import check_dates, explained, pinned_context

PAIRED_FILE: Final = "paired.json"
KEYS_FOLDER: Final = "keys"
TIMEOUT_S: Final = 15.0
_NONCE_BYTES: Final = 16
_RETRY_AFTER_S: Final = 60.0

T = TypeVar("T")


class PairingRefused(OutriderError):
    """The receiver says no to this token, certificate or request. Its reason is in the message."""


class NotPaired(UsageFault):
    """This vehicle knows no receiver yet."""


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """Who this vehicle is and where its receiver is. No secret is in it."""

    vehicle: str
    host: str
    mqtt_port: int
    https_port: int
    ca: str
    director_root: str = ""
    image_root: str = ""


@dataclass(frozen=True, slots=True)
class SignedTime:
    """The receiver's wall clock at some instant of an exchange that took `within_ns`."""

    wall_ns: int
    within_ns: int


def read_pairing_file(data: bytes) -> PairingFile:
    """Raises UsageFault for a file that isn't whole."""
    try:
        file = read_message(data, PairingFile)
        x509.load_pem_x509_certificate(file.ca.encode())
    except (BadMessage, ValueError) as error:
        raise UsageFault(f"This isn't a pairing file: {error}. Ask the operator for a new one.") from error
    if not is_vehicle_id(file.vehicle):
        raise UsageFault(f"The pairing file names a vehicle {file.vehicle!r}, which no vehicle can be called.")
    return file


def pair(file: PairingFile, keys: KeyStore, disk: Disk, clock: Clock, timeout_s: float = TIMEOUT_S) -> Paired:
    """Exchanges the token for a certificate of a key made here, and remembers the receiver.

    It may be repeated after a power cut, or a lost answer, while the token lasts. Raises PairingRefused, Unreachable,
    Untrusted, ClockUntrusted (fetch_time first) or Throttled.
    """
    paired = Paired(
        vehicle=file.vehicle,
        host=file.host,
        mqtt_port=file.mqtt_port,
        https_port=file.https_port,
        ca=file.ca,
        director_root=file.director_root,
        image_root=file.image_root,
    )
    # What was before belongs to another pairing: nobody will let it in again, nor take back a renewal of it.
    keys.retire_previous()
    pending = keys.begin_identity()
    request = PairRequest(file.token, pending.csr(file.vehicle).decode())
    issued = _Https(paired, pinned_context(file.ca), clock, timeout_s).ask("POST", PAIR_PATH, Issued, request)
    certificate = own_certificate(issued, paired)
    # Before the key is installed: until then the same token gets its certificate again, whatever happens in between.
    replace_file(disk, PAIRED_FILE, msgspec.json.encode(paired))
    keys.install(pending, certificate)
    keys.retire_previous()
    return paired


def load_paired(disk: Disk) -> Paired:
    """Raises NotPaired."""
    try:
        return read_message(disk.read(PAIRED_FILE), Paired)
    except FileNotFoundError as error:
        raise NotPaired("This vehicle isn't paired. Run: outrider pair FILE, with its operator's file.") from error
    except BadMessage as error:
        raise NotPaired(f"What this vehicle knew of its receiver is damaged: {error}. Pair it again.") from error


def renew(paired: Paired, keys: KeyStore, clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
    """A certificate for a new key, by the one in use, which is kept: `prove` the new one, or connect to the receiver
    with it, then call `keys.retire_previous()`; `keys.revert()` if the receiver doesn't let it in.

    Raises as `pair` does, and ecu.keys.RenewalUnfinished when the last one was never settled.
    """
    pending = keys.begin_identity()
    request = RenewRequest(pending.csr(paired.vehicle).decode())
    issued = _Https(paired, tls_context(paired, keys), clock, timeout_s).ask("POST", RENEW_PATH, Issued, request)
    keys.install(pending, own_certificate(issued, paired))


def prove(paired: Paired, keys: KeyStore, clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
    """Returns when the receiver lets the identity in use in. Raises PairingRefused when it says no to it, and else as
    `pair` does, when it said nothing of it."""
    _Https(paired, tls_context(paired, keys), clock, timeout_s).ask("GET", WELCOME_PATH, Welcome)


def countersign(
    paired: Paired, keys: KeyStore, clock: Clock, asked: CheckpointRequest, timeout_s: float = TIMEOUT_S
) -> CheckpointAnswer:
    """Heads of both audits, exchanged. Raises Untrusted where the answer isn't the receiver's about this vehicle's
    head, and else as `prove` does."""
    line = _Https(paired, tls_context(paired, keys), clock, timeout_s)
    answer = line.ask("POST", CHECKPOINT_PATH, CheckpointAnswer, asked)
    key = x509.load_pem_x509_certificate(paired.ca.encode()).public_key()
    public = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = message(paired.vehicle, asked.head, answer.receiver)
    about_us = (answer.vehicle, answer.head) == (paired.vehicle, asked.head)
    if not about_us or not is_signed_by(public, signed, _hex(answer.signature)):
        raise Untrusted(f"{paired.host} hasn't signed for this vehicle's audit. Don't keep it.")
    return answer


def fetch_time(paired: Paired | PairingFile, clock: Clock, timeout_s: float = TIMEOUT_S) -> SignedTime:
    """The receiver's wall clock, signed for a nonce of ours by the pinned authority.

    For a clock that can't be trusted: the certificate's dates alone go unchecked. The caller's time floor still holds.
    """
    nonce = secrets.token_hex(_NONCE_BYTES)
    line = _Https(paired, pinned_context(paired.ca), None, timeout_s)
    begun_ns = clock.boot_ns()
    answer = line.ask("GET", f"{TIME_PATH}?nonce={nonce}", TimeAnswer)
    within_ns = clock.boot_ns() - begun_ns
    if not is_signed(answer, nonce, paired.ca):
        raise Untrusted(f"The time from {paired.host} isn't signed by its authority for this question. Don't use it.")
    return SignedTime(answer.wall_ns, within_ns)


def tls_context(paired: Paired, keys: KeyStore) -> ssl.SSLContext:
    """Mutual TLS with the receiver: what an MqttLink takes. After `renew`, call `keys.load_identity` on it again."""
    context = pinned_context(paired.ca)
    keys.load_identity(context)
    return context


def _hex(text: str) -> bytes:
    """Nothing where it is none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


class _Https:
    """One request on one connection, bounded in time and size. Without a `clock` the dates go unchecked."""

    def __init__(
        self, paired: Paired | PairingFile, context: ssl.SSLContext, clock: Clock | None, timeout_s: float
    ) -> None:
        self._host, self._port = paired.host, paired.https_port
        self._context = context
        self._clock = clock
        self._timeout_s = timeout_s

    def ask(self, method: str, path: str, kind: type[T], message: Any = None) -> T:
        body = None if message is None else msgspec.json.encode(message)
        status, wait_s, answer = self._exchange(method, path, body)
        if status == 200:
            return _understood(answer, kind, self._host)
        words = _refusal_words(answer, status)
        if status == 429:
            raise Throttled(words, wait_s)
        if status >= 500 or status == 404:  # nobody is refused by an address that isn't there
            raise Unreachable(words)
        raise PairingRefused(words)

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, float, bytes]:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._context)
        try:
            with explained(self._host, self._port):
                connection.connect()
                self._check(connection.sock)
                connection.request(method, path, body)
                # An answer that is the connection's last holds the wire itself, whole or not.
                with connection.getresponse() as response:
                    wait_s = response.headers.get("retry-after", "")
                    data = response.read(MAX_MESSAGE_BYTES + 1)
                return response.status, float(wait_s) if wait_s.isdecimal() else _RETRY_AFTER_S, data
        except http.client.HTTPException as error:
            raise Unreachable(f"{self._host} port {self._port} doesn't speak as a receiver: {error!r}.") from error
        finally:
            connection.close()

    def _check(self, wire: Any) -> None:
        if self._clock is not None:
            check_dates(wire.getpeercert(True), self._clock, self._host)


def _understood(answer: bytes, kind: type[T], host: str) -> T:
    try:
        return read_message(answer, kind)
    except BadMessage as error:
        raise Unreachable(f"{host} answered what this version doesn't understand: {error}.") from error


def _refusal_words(answer: bytes, status: int) -> str:
    try:
        return read_message(answer, Refusal).error
    except BadMessage:
        return f"The receiver answered {status} without a word of why."


def own_certificate(issued: Issued, paired: Paired) -> bytes:
    """The certificate, if it is this vehicle's and the pinned authority's; the key store looks at its key."""
    pem = issued.certificate.encode()
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(paired.ca.encode()))
    except (ValueError, TypeError, InvalidSignature) as error:
        raise Untrusted(
            f"The certificate that {paired.host} sent isn't its authority's. Nothing was installed."
        ) from error
    if issued.vehicle != paired.vehicle:
        raise Untrusted(f"{paired.host} sent a certificate of {issued.vehicle} to {paired.vehicle}: not installed.")
    return pem


def is_signed(answer: TimeAnswer, nonce: str, ca_pem: str) -> bool:
    """Whether the authority signed this very time for this very nonce."""
    key = x509.load_pem_x509_certificate(ca_pem.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(bytes.fromhex(answer.signature), time_message(nonce, answer.wall_ns), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return answer.nonce == nonce
