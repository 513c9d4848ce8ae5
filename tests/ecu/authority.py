"""A certificate authority for key-store tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_BORN = datetime(2026, 1, 1, tzinfo=UTC)
_DIES = _BORN + timedelta(days=36500)


class Authority:
    """Certifies whatever it is asked to."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test authority")
        self.pem = self._certificate(self._name, self._key.public_key(), ca=True)

    def certify(self, csr_pem: bytes) -> bytes:
        """The certificate for a request, PEM, followed by this authority's own."""
        csr = x509.load_pem_x509_csr(csr_pem)
        public_key = csr.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        return self._certificate(csr.subject, public_key, ca=False) + self.pem

    def _certificate(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, ca: bool) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_BORN)
            .not_valid_after(_DIES)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def common_name(certificate_pem: bytes) -> str:
    leaf = x509.load_pem_x509_certificates(certificate_pem)[0]
    return str(leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def verify(certificate_pem: bytes, signature: bytes, message: bytes) -> None:
    """Raises InvalidSignature."""
    public_key = x509.load_pem_x509_certificates(certificate_pem)[0].public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    public_key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
