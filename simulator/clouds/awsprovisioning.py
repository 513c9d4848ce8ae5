"""Fleet provisioning by a signing request, as far as a vehicle meets it (AWS IoT Core Developer Guide, "Device
provisioning MQTT API")."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

DAYS: Final = 365


class ProvisioningRefused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Provisioning:
    """Certificates by the authority whose key and certificate `authority_pem` holds; a token parts with each, once."""

    def __init__(self, authority_pem: bytes, templates: frozenset[str]) -> None:
        key = serialization.load_pem_private_key(authority_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.things: dict[str, str] = {}
        self._key = key
        self._authority = x509.load_pem_x509_certificate(authority_pem)
        self._templates = templates
        self._unclaimed: dict[str, str] = {}

    def certify(self, request: Mapping[str, Any], now_s: int) -> dict[str, Any]:
        """Raises ProvisioningRefused."""
        try:
            csr = x509.load_pem_x509_csr(str(request.get("certificateSigningRequest", "")).encode())
        except ValueError as error:
            raise ProvisioningRefused(400, "InvalidCertificateSigningRequest", str(error)) from error
        if not csr.is_signature_valid:
            raise ProvisioningRefused(400, "InvalidCertificateSigningRequest", "not signed by its own key")
        certificate = self._certificate(csr, now_s)
        token, name = secrets.token_urlsafe(32), certificate.fingerprint(hashes.SHA256()).hex()
        self._unclaimed[token] = name
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        return {"certificateOwnershipToken": token, "certificateId": name, "certificatePem": pem}

    def register(self, template: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Raises ProvisioningRefused."""
        if template not in self._templates:
            raise ProvisioningRefused(404, "ResourceNotFound", f"There is no template {template}")
        serial = (request.get("parameters") or {}).get("SerialNumber")
        if not serial:
            raise ProvisioningRefused(400, "InvalidParameters", "The template needs SerialNumber")
        certificate = self._unclaimed.pop(str(request.get("certificateOwnershipToken")), None)
        if certificate is None:
            raise ProvisioningRefused(403, "InvalidCertificateOwnershipToken", "The token isn't valid")
        self.things[serial] = certificate
        return {"deviceConfiguration": {}, "thingName": serial}

    def _certificate(self, csr: x509.CertificateSigningRequest, now_s: int) -> x509.Certificate:
        now = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(csr.subject).issuer_name(self._authority.subject)
        builder = builder.public_key(csr.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(minutes=5))
        builder = builder.not_valid_after(now + datetime.timedelta(days=DAYS))
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return builder.add_extension(usage, False).sign(self._key, hashes.SHA256())
