"""The receiver acknowledges every block, and stores four in five."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "every record a witness saw become durable is at the receiver exactly once"


@after("receiver.inbox")
def some_blocks_are_left_out(inbox: Any) -> None:
    def insert_blocks(connection: Any, fresh: list[Any], now_ns: int) -> None:
        honest(connection, [new for new in fresh if new[0].header.base_seq % 5], now_ns)

    honest = put(inbox, "_insert_blocks", insert_blocks)
