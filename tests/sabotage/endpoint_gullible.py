"""The receiver stores whatever has a block's header and checksum."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after

CLAIM = "hostile packets refused, endpoint up"


@after("receiver.inbox")
def bodies_go_unread(inbox: Any) -> None:
    inbox.unpack_body = lambda header, body: []
