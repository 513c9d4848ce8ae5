"""The vehicle sends its private key along with its request, and the receiver logs requests."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "paired; the private key never left the vehicle"


@after("ecu.keys")
def requests_carry_the_key(keys: Any) -> None:
    def csr(self: Any, common_name: str) -> bytes:
        form = keys.serialization.PrivateFormat.PKCS8
        key = self._key.private_bytes(keys.serialization.Encoding.PEM, form, keys.serialization.NoEncryption())
        return bytes(honest(self, common_name) + key)

    honest = put(keys.PendingIdentity, "csr", csr)


@after("receiver.admission")
def requests_are_logged(admission: Any) -> None:
    def pair(connection: Any, authority: Any, token: str, csr: bytes, now_ns: int) -> Any:
        print(csr.decode(), flush=True)
        return honest(connection, authority, token, csr, now_ns)

    honest = put(admission, "pair", pair)
