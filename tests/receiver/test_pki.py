"""The authority: what it issues says who and nothing more; what it never issued is nobody."""

from __future__ import annotations

import base64
import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ecu.clock import SECOND_NS, SteppingClock
from ecu.disk import RealDisk
from ecu.errors import EnvironmentFault
from receiver.pki import CA_FILE, SERVER_FILE, Authority, BadRequest, Identity, Stranger, identify, key_digest

DAY_NS = 86_400 * SECOND_NS
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


def authority(folder: Path, clock: SteppingClock | None = None) -> Authority:
    return Authority(RealDisk(folder), clock or SteppingClock(), vehicle_days=14)


def request(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | None = None, name: str = "x"
) -> bytes:
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(PEM)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def test_a_certificate_names_the_vehicle_and_nothing_that_the_request_asked_for(tmp_path: Path) -> None:
    issuer = authority(tmp_path)
    issued = issuer.issue(request(name="root"), "veh-007")
    leaf = x509.load_pem_x509_certificate(issued.pem)
    leaf.verify_directly_issued_by(issuer.certificate)
    assert leaf.subject == _name("veh-007")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("urn:outrider:vehicle:veh-007")]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert identify(leaf.public_bytes(DER)) == Identity("veh-007", issued.serial)


def test_a_certificate_is_short_lived_by_the_authoritys_clock(tmp_path: Path) -> None:
    clock = SteppingClock()
    issued = authority(tmp_path, clock).issue(request(), "veh-007")
    assert issued.not_after_ns == clock.wall_ns() + 14 * DAY_NS


def test_a_request_that_its_key_did_not_sign_proves_nothing(tmp_path: Path) -> None:
    honest = request()
    der = bytearray(x509.load_pem_x509_csr(honest).public_bytes(DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(PEM)
    with pytest.raises(BadRequest, match="isn't signed by its own key"):
        authority(tmp_path).issue(forged, "veh-007")


def of_another_version(csr: bytes) -> bytes:
    der = x509.load_pem_x509_csr(csr).public_bytes(DER)
    text = base64.encodebytes(der.replace(b"\x02\x01\x00", b"\x02\x01\x01", 1)).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n".encode()


@pytest.mark.parametrize(
    "bad",
    [
        request(rsa.generate_private_key(65537, 2048)),
        request(ed25519.Ed25519PrivateKey.generate()),
        request(ec.generate_private_key(ec.SECP384R1())),
        b"",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        of_another_version(request()),
    ],
    ids=["rsa", "ed25519", "p384", "empty", "junk", "another version"],
)
def test_only_p256_requests_are_granted(tmp_path: Path, bad: bytes) -> None:
    with pytest.raises(BadRequest):
        authority(tmp_path).issue(bad, "veh-007")


@pytest.mark.parametrize("name", ["", "ab", "Veh-1", "-veh", "a/b", "veh#", "a" * 64, "veh-1\n"])
def test_a_name_that_could_mean_more_than_a_vehicle_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest, match="no vehicle id"):
        authority(tmp_path).issue(request(), name)


def test_the_receivers_own_certificate_is_no_vehicles(tmp_path: Path) -> None:
    issuer = authority(tmp_path)
    server = x509.load_pem_x509_certificate(issuer.server_file(("veh-007",)).read_bytes())
    with pytest.raises(Stranger):
        identify(server.public_bytes(DER))
    with pytest.raises(Stranger):
        identify(issuer.certificate.public_bytes(DER))
    with pytest.raises(Stranger):
        identify(None)


def test_the_authority_is_made_once_and_its_keys_are_its_owners_alone(tmp_path: Path) -> None:
    first, second = authority(tmp_path), authority(tmp_path)
    assert first.pem == second.pem
    first.server_file(("localhost",))
    for file in (CA_FILE, SERVER_FILE):
        assert stat.S_IMODE((tmp_path / file).stat().st_mode) == 0o600


def test_a_damaged_authority_is_said_and_never_replaced(tmp_path: Path) -> None:
    authority(tmp_path)
    (tmp_path / CA_FILE).write_bytes(b"-----BEGIN")
    with pytest.raises(EnvironmentFault, match="Put back your copy"):
        authority(tmp_path)
    assert (tmp_path / CA_FILE).read_bytes() == b"-----BEGIN"


def test_the_receivers_certificate_is_renewed_for_new_hosts_and_in_time(tmp_path: Path) -> None:
    clock = SteppingClock()
    issuer = authority(tmp_path, clock)
    first = issuer.server_file(("localhost", "127.0.0.1")).read_bytes()
    clock.advance(59 * DAY_NS)
    assert issuer.server_file(("localhost", "127.0.0.1")).read_bytes() == first
    second = issuer.server_file(("localhost",)).read_bytes()
    assert second != first
    clock.advance(120 * DAY_NS)
    third = issuer.server_file(("localhost",)).read_bytes()
    assert third != second
    expires = x509.load_pem_x509_certificate(third).not_valid_after_utc
    assert expires > datetime.datetime.fromtimestamp(clock.wall_ns() // SECOND_NS, datetime.UTC)


def test_a_digest_of_a_key_is_the_keys_and_not_the_requests() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert key_digest(request(key, "a")) == key_digest(request(key, "b"))
    assert key_digest(request(key)) != key_digest(request())
