"""TLS on the receiver's side: a peer that is refused is told why."""

from __future__ import annotations

import ssl


class TellingContext(ssl.SSLContext):
    """The errors of its failed handshakes carry the `alert` that tells the peer why (RFC 8446, section 6)."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        secured = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        assert isinstance(secured, _Telling)
        secured.outgoing = outgoing
        return secured


class _Telling(ssl.SSLObject):
    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            error.alert = self.outgoing.read()  # type: ignore[attr-defined]
            raise


TellingContext.sslobject_class = _Telling
