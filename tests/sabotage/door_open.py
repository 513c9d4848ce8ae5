"""The endpoint asks for no certificate, and takes whoever comes for the vehicle."""

from __future__ import annotations

import ssl
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "a stranger's certificate refused"


@after("receiver.pki")
def certificates_are_not_asked_for(pki: Any) -> None:
    def server_context(self: Any, hosts: Any, verify_mode: ssl.VerifyMode) -> Any:
        return honest(self, hosts, ssl.CERT_NONE)

    honest = put(pki.Authority, "server_context", server_context)
    put(pki, "identify", lambda der: pki.Identity("demo-vehicle", 0))


@after("receiver.admission")
def everybody_is_admitted(admission: Any) -> None:
    put(admission, "check", lambda connection, who, now_ns: 1 << 62)
