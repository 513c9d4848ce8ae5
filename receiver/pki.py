"""The pairing authority: who may call itself which vehicle. X.509 (RFC 5280) with ECDSA P-256.

The authority's key and certificate are one file, so that a power cut can't part them; it signs vehicles' certificates,
the receiver's own, and the time.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ecu.clock import SECOND_NS, Clock
from ecu.disk import RealDisk, replace_file
from ecu.errors import EnvironmentFault, OutriderError
from receiver.tls import TellingContext
from telemetry.links.pairing import is_vehicle_id
from telemetry.links.tls import NO_CHECK_TIME, broker_context

FOLDER = "authority"
CA_FILE = f"{FOLDER}/ca.pem"
SERVER_FILE = f"{FOLDER}/server.pem"
CA_DAYS = 3650
SERVER_DAYS = 90
SERVER_RENEWED_BEFORE_DAYS = 30
_BACKDATED = datetime.timedelta(minutes=5)
_URN = "urn:outrider:vehicle:"
_ASKED_NOTHING = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


class BadRequest(OutriderError):
    """This signing request can't be granted, whoever asks."""


class Stranger(OutriderError):
    """This certificate names no vehicle of ours."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One issued to a vehicle. `serial` is what revocation goes by."""

    vehicle: str
    serial: int
    not_after_ns: int
    pem: bytes
    public_key: bytes  # DER, SubjectPublicKeyInfo


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is at the other end of a connection, by its certificate alone."""

    vehicle: str
    serial: int


class Authority:
    """Issues and recognises. Its folder is made, 0600, at the first start."""

    def __init__(self, disk: RealDisk, clock: Clock, vehicle_days: float) -> None:
        self._disk = disk
        self._clock = clock
        self._vehicle_days = vehicle_days
        disk.make_folder(FOLDER)
        if not disk.exists(CA_FILE):
            replace_file(disk, CA_FILE, self._new_ca())
        self._key, self.certificate = _read_pair(disk, CA_FILE)

    @property
    def pem(self) -> str:
        """The certificate that vehicles pin."""
        return _pem(self.certificate).decode()

    @property
    def vehicle_life_ns(self) -> int:
        """How long a vehicle's certificate lives."""
        return int(self._vehicle_days * 86_400 * SECOND_NS)

    def issue(self, csr_pem: bytes, vehicle: str) -> Certificate:
        """A short-lived client certificate for the key that made `csr_pem`. Nothing else in the request is believed.

        Raises BadRequest when it doesn't prove possession of a P-256 key.
        """
        if not is_vehicle_id(vehicle):
            raise BadRequest(f"{vehicle!r} is no vehicle id: use 3 to 63 of a-z, 0-9 and '-', not '-' first.")
        names = [x509.UniformResourceIdentifier(_URN + vehicle)]
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        leaf = self._leaf(_proven_key(csr_pem), vehicle, names, usage, self._vehicle_days)
        not_after_ns = int(leaf.not_valid_after_utc.timestamp()) * SECOND_NS
        return Certificate(vehicle, leaf.serial_number, not_after_ns, _pem(leaf), key_der(leaf.public_key()))

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256 over `message`, DER. The caller's message must say what it is for."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def server_file(self, hosts: tuple[str, ...]) -> Path:
        """The receiver's own key and certificate for `hosts`; made anew when they changed or it grows old."""
        if not self._disk.exists(SERVER_FILE) or not self._serves(_read_pair(self._disk, SERVER_FILE)[1], hosts):
            key = ec.generate_private_key(ec.SECP256R1())
            names = [_general_name(host) for host in hosts]
            leaf = self._leaf(key.public_key(), hosts[0], names, ExtendedKeyUsageOID.SERVER_AUTH, SERVER_DAYS)
            replace_file(self._disk, SERVER_FILE, _private_pem(key) + _pem(leaf))
        return self._disk.root / SERVER_FILE

    def client_context(self, name: str, ca_pem: str) -> ssl.SSLContext:
        """TLS to a peer of `ca_pem`, its dates left to the caller, shown a certificate that names this receiver `name`.

        It is for this process alone: a new key each time, never on disk.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._leaf(key.public_key(), name, [x509.DNSName(name)], ExtendedKeyUsageOID.CLIENT_AUTH, SERVER_DAYS)
        context = broker_context(ca_pem)
        with os.fdopen(os.memfd_create("receiver"), "wb") as file:
            file.write(_private_pem(key) + _pem(leaf))
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return context

    def server_context(self, hosts: tuple[str, ...], clients: ssl.VerifyMode) -> ssl.SSLContext:
        """TLS 1.3 that shows the receiver's certificate and takes clients' from this authority alone."""
        context = TellingContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = clients
        # A client's dates are looked at in admission, by our clock, where its vehicle can be told in words.
        context.verify_flags |= ssl.VERIFY_X509_STRICT | NO_CHECK_TIME
        # Nothing resumes sessions here, and a ticket would be one more secret that lets a vehicle in.
        context.num_tickets = 0
        context.load_verify_locations(cadata=self.pem)
        context.load_cert_chain(self.server_file(hosts))
        return context

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock.wall_ns() // SECOND_NS, datetime.UTC)

    def _serves(self, certificate: x509.Certificate, hosts: tuple[str, ...]) -> bool:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        fresh_until = certificate.not_valid_after_utc - datetime.timedelta(days=SERVER_RENEWED_BEFORE_DAYS)
        ours = certificate.issuer == self.certificate.subject
        return ours and list(names) == [_general_name(host) for host in hosts] and self._now() < fresh_until

    def _new_ca(self) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        # The serial in the name tells two authorities apart in errors and in chains.
        name = _common_name(f"Outrider authority {serial:x}"[:64])
        builder = self._dated(CA_DAYS).subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(serial).add_extension(x509.BasicConstraints(True, 0), True)
        builder = builder.add_extension(_SIGNS_CERTIFICATES, True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        return _private_pem(key) + _pem(builder.sign(key, hashes.SHA256()))

    def _leaf(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        also: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        days: float,
    ) -> x509.Certificate:
        builder = self._dated(days).subject_name(_common_name(name)).issuer_name(self.certificate.subject)
        builder = builder.public_key(key).serial_number(x509.random_serial_number())
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        for extension, critical in (
            (x509.BasicConstraints(False, None), True),
            (_ASKED_NOTHING, True),
            (x509.ExtendedKeyUsage([usage]), True),
            (x509.SubjectAlternativeName(also), False),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (authority, False),
        ):
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())

    def _dated(self, days: float) -> x509.CertificateBuilder:
        now = self._now()
        dated = x509.CertificateBuilder().not_valid_before(now - _BACKDATED)
        return dated.not_valid_after(now + datetime.timedelta(days=days))


def identify(der: bytes | None) -> Identity:
    """Whose certificate this is, given that TLS has verified it. Raises Stranger."""
    if der is None:
        raise Stranger("No client certificate was shown. Pair this vehicle first.")
    certificate = x509.load_der_x509_certificate(der)
    names = [str(n.value) for n in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    also: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        also = found.get_values_for_type(x509.UniformResourceIdentifier)
    if len(names) != 1 or also != [_URN + names[0]] or not is_vehicle_id(names[0]):
        raise Stranger(f"The certificate of {certificate.subject.rfc4514_string()} names no vehicle.")
    return Identity(names[0], certificate.serial_number)


def key_digest(csr_pem: bytes) -> bytes:
    """SHA-256 of the public key that a request proves possession of. Raises BadRequest."""
    return hashlib.sha256(key_der(_proven_key(csr_pem))).digest()


def key_der(key: CertificatePublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo (RFC 5280, section 4.1)."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _proven_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        proven = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise BadRequest("The signing request isn't a PKCS #10 request in PEM. Make a new one.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequest("The key in the signing request isn't ECDSA P-256. Make one that is.")
    if not proven:
        raise BadRequest("The signing request isn't signed by its own key. Make a new one.")
    return key


def _read_pair(disk: RealDisk, path: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        data = disk.read(path)
        key = serialization.load_pem_private_key(data, password=None)
        certificate = x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise EnvironmentFault(
            f"{disk.root / path} holds no key and certificate: {error}. Put back your copy of it; without one, remove "
            "the folder and pair every vehicle again."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise EnvironmentFault(f"The key in {disk.root / path} isn't ECDSA. Put back your copy of it.")
    return key, certificate


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
