"""The receiver stores whatever has a block's header and checksum."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "hostile packets refused, endpoint up"


@after("receiver.inbox")
def bodies_go_unread(inbox: Any) -> None:
    put(inbox, "unpack_body", lambda header, body: [])
