"""A key in a PKCS#11 token (an HSM, a YubiKey, SoftHSM), named by a URI as RFC 7512 writes it:

    pkcs11:token=desk;id=%02?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/desk/pin

`token` and `id` or `object` (its label) say which; `module-path` is the token's driver. The PIN comes from
`pin-source`, or is asked for; `pin-value` is refused: it would stand in a file beside the key. ECDSA over P-256 or
P-384 alone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from ecu.errors import shown
from ota.errors import RepositoryFault

SCHEME: Final = "pkcs11"
_KNOWN: Final = frozenset({"token", "id", "object"})
_KNOWN_OF_QUERY: Final = frozenset({"module-path", "pin-source"})
_HASHES: Final = {"ecdsa-sha2-nistp256": "sha256", "ecdsa-sha2-nistp384": "sha384"}
_CURVES: Final = {SECP256R1: "ecdsa-sha2-nistp256", SECP384R1: "ecdsa-sha2-nistp384"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the key is: the driver's path, the token's label, the key's id or label, the file that holds the PIN."""

    module: str
    token: str
    id: bytes | None
    label: str | None
    pin_file: str | None


def parse(uri: str) -> Place:
    """Raises RepositoryFault."""
    path, _, query = uri.partition("?")
    parts = dict(part.partition("=")[::2] for part in path.removeprefix(f"{SCHEME}:").split(";") if part)
    more = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := (parts.keys() - _KNOWN) | (more.keys() - _KNOWN_OF_QUERY):
        raise _unfit(uri, f"{', '.join(sorted(map(shown, unknown)))} isn't known, or doesn't belong into a file")
    if "token" not in parts or not {"id", "object"} & parts.keys() or not more.get("module-path"):
        raise _unfit(uri, "it says no token, no id or object, or no module-path")
    return Place(
        module=more["module-path"],
        token=unquote(parts["token"]),
        id=unquote_to_bytes(parts["id"]) if "id" in parts else None,
        label=unquote(parts["object"]) if "object" in parts else None,
        pin_file=_file_of(uri, more["pin-source"]) if "pin-source" in more else None,
    )


class Pkcs11Signer(Signer):
    """Signs in the token; the private key never leaves it."""

    def __init__(self, place: Place, public_key: SSlibKey, secrets: SecretsHandler) -> None:
        self._place = place
        self._public_key = public_key
        self._secrets = secrets

    @property
    def public_key(self) -> SSlibKey:
        return self._public_key

    @classmethod
    def import_(cls, uri: str, secrets: SecretsHandler) -> SSlibKey:
        """The public half, read from the token. Raises RepositoryFault."""
        place = parse(uri)
        with _told(uri), _session(place, secrets) as session:
            import pkcs11
            from pkcs11.util.ec import encode_ec_public_key

            key = load_der_public_key(encode_ec_public_key(_key(session, pkcs11.ObjectClass.PUBLIC_KEY, place)))
        if not isinstance(key, EllipticCurvePublicKey) or type(key.curve) not in _CURVES:
            raise _unfit(uri, "it isn't a key on P-256 or P-384")
        return SSlibKey.from_crypto(key, scheme=_CURVES[type(key.curve)])

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Pkcs11Signer:
        if not isinstance(public_key, SSlibKey) or public_key.scheme not in _HASHES:
            raise _unfit(priv_key_uri, f"{public_key.scheme} isn't signed in tokens here")
        if secrets_handler is None:
            raise _unfit(priv_key_uri, "nobody can be asked for its PIN")
        return cls(parse(priv_key_uri), public_key, secrets_handler)

    def sign(self, payload: bytes) -> Signature:
        digest = hashlib.new(_HASHES[self._public_key.scheme], payload).digest()
        with _told(self._place.token), _session(self._place, self._secrets) as session:
            import pkcs11
            from pkcs11.util.ec import encode_ecdsa_signature

            key = _key(session, pkcs11.ObjectClass.PRIVATE_KEY, self._place)
            raw = key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA)
        return Signature(self._public_key.keyid, encode_ecdsa_signature(raw).hex())


@contextlib.contextmanager
def _session(place: Place, secrets: SecretsHandler) -> Iterator[Any]:
    import pkcs11

    token = pkcs11.lib(place.module).get_token(token_label=place.token)
    with token.open(user_pin=_pin(place, secrets)) as session:
        yield session


def _key(session: Any, its_class: Any, place: Place) -> Any:
    import pkcs11

    wanted: Mapping[str, Any] = {"id": place.id, "label": place.label}
    named = {name: value for name, value in wanted.items() if value is not None}
    return session.get_key(object_class=its_class, key_type=pkcs11.KeyType.EC, **named)


def _pin(place: Place, secrets: SecretsHandler) -> str:
    if place.pin_file is None:
        return secrets("pin")
    try:
        return Path(place.pin_file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryFault(f"The PIN can't be read from {shown(place.pin_file)}: {error}.") from error


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """The token's refusals, for whoever sits at the desk."""
    try:
        import pkcs11
    except ImportError as error:
        raise RepositoryFault(
            'Keys in PKCS#11 tokens need a package that isn\'t here. Install it: pip install "outrider[hsm]".'
        ) from error
    try:
        yield
    except pkcs11.exceptions.PinIncorrect as error:
        raise RepositoryFault(f"The PIN for {shown(what)} is wrong. After a few wrong ones a token locks.") from error
    except pkcs11.exceptions.NoSuchKey as error:
        raise RepositoryFault(f"The token holds no key on an elliptic curve by that id for {shown(what)}.") from error
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as error:
        why = shown(str(error) or type(error).__name__)
        raise RepositoryFault(
            f"The PKCS#11 token for {shown(what)} does nothing: {why}. Is it plugged in, its driver the one in "
            "module-path, its label the one in token?"
        ) from error


def _file_of(uri: str, source: str) -> str:
    path = source.removeprefix("file:")
    if path == source or not Path(path).is_absolute():
        raise _unfit(uri, "pin-source is no file:/absolute/path")
    return path


def _unfit(uri: str, why: str) -> RepositoryFault:
    return RepositoryFault(
        f"{shown(uri.partition('?')[0])} can't name a key: {why}. Write it like "
        "pkcs11:token=LABEL;id=%02?module-path=/usr/lib/softhsm/libsofthsm2.so"
    )
