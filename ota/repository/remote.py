"""Keys that aren't in files: by a URI, in a PKCS#11 token or in a cloud's key service, which sign and give no key away.

A key folder holds NAME.uri for one: the URI, the signature scheme and the public key (PEM), each from a line of its own
on. Nothing in it is secret. securesystemslib speaks to the clouds, each with its own library and its own credentials.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    AWSSigner,
    AzureSigner,
    GCPSigner,
    Key,
    SecretsHandler,
    Signature,
    Signer,
    SSlibKey,
)

from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.repository.pkcs11 import SCHEME, Pkcs11Signer

SCHEMES: Final = (SCHEME, AWSSigner.SCHEME, GCPSigner.SCHEME, AzureSigner.SCHEME)
SIGNER_FOR_URI_SCHEME[SCHEME] = Pkcs11Signer


def read_key(uri: str, secrets: SecretsHandler) -> SSlibKey:
    """The public half of the key at `uri`, from where it is. Raises RepositoryFault."""
    _demand_known(uri)
    scheme, _, rest = uri.partition(":")
    try:
        if scheme == AWSSigner.SCHEME:
            return AWSSigner.import_(rest)[1]
        if scheme == GCPSigner.SCHEME:
            return GCPSigner.import_(rest)[1]
        if scheme == AzureSigner.SCHEME:
            parts = urlsplit(uri)
            return AzureSigner.import_(parts.netloc.partition(".")[0], parts.path.split("/")[2])[1]
        return Pkcs11Signer.import_(uri, secrets)
    except RepositoryFault:
        raise
    except Exception as error:
        raise _unreachable(uri, error) from error


def encode(uri: str, key: SSlibKey) -> bytes:
    """NAME.uri's content."""
    return f"{uri}\n{key.scheme}\n{key.keyval['public'].strip()}\n".encode()


def decode(data: bytes) -> tuple[str, SSlibKey]:
    """The URI and the public key. Raises ValueError."""
    uri, scheme, pem = data.decode().split("\n", 2)
    _demand_known(uri)
    return uri, public_key(pem.encode(), scheme)


def public_key(pem: bytes, scheme: str | None = None) -> SSlibKey:
    """As metadata has it; with the usual scheme of its type unless another is given. Raises ValueError."""
    try:
        return SSlibKey.from_crypto(load_pem_public_key(pem), scheme=scheme)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error


class RemoteSigner(Signer):
    """Another signer, whose errors are told to whoever sits at the desk, and whose signatures are checked: hardware
    that holds another key than its URI file says must not make metadata that nobody believes."""

    def __init__(self, uri: str, key: Key, secrets: SecretsHandler) -> None:
        self._uri = uri
        try:
            self._signer = Signer.from_priv_key_uri(uri, key, secrets)
        except RepositoryFault:
            raise
        except Exception as error:
            raise _unreachable(uri, error) from error

    @property
    def public_key(self) -> Key:
        return self._signer.public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> RemoteSigner:
        if secrets_handler is None:
            raise ValueError("somebody must be asked for secrets")
        return cls(priv_key_uri, public_key, secrets_handler)

    def sign(self, payload: bytes) -> Signature:
        try:
            signature = self._signer.sign(payload)
            self.public_key.verify_signature(signature, payload)
        except RepositoryFault:
            raise
        except Exception as error:
            raise _unreachable(self._uri, error) from error
        return signature


def _demand_known(uri: str) -> None:
    if uri.partition(":")[0] not in SCHEMES:
        raise RepositoryFault(f"{shown(uri)} names no key. It begins with one of: {', '.join(SCHEMES)}.")


def _unreachable(uri: str, error: Exception) -> RepositoryFault:
    scheme = uri.partition(":")[0]
    if isinstance(error, UnsupportedLibraryError):
        extra = "hsm" if scheme == SCHEME else scheme
        return RepositoryFault(
            f'Keys by {scheme}: need a package that isn\'t here. Install it: pip install "outrider[{extra}]".'
        )
    why = shown(str(error) or type(error).__name__)[:300]
    return RepositoryFault(f"The key {shown(uri.partition('?')[0])} can't be used: {why}. Nothing was signed with it.")
