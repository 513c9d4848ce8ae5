"""The receiver acknowledges every block, and stores four in five."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

BASE_SEQ = 3
"""Its place among the columns."""
CLAIM = "every record a witness saw become durable is at the receiver exactly once"


@after("receiver.inbox")
def some_blocks_are_left_out(inbox: Any) -> None:
    class Forgetful:
        def run(self, connection: Any, rows: list[Any]) -> None:
            honest.run(connection, [row for row in rows if row[BASE_SEQ] % 5])

    honest = put(inbox, "_INSERT_BLOCKS", Forgetful())
