"""What a receiver tells a vehicle on one MQTT connection, sorted by topic."""

from __future__ import annotations

from typing import Final

from telemetry.links.answers import Answers
from telemetry.links.link import Hint
from telemetry.links.stream import Stream
from telemetry.wire import MAX_HINT_CHARACTERS, BadBlock, Receipt, unpack_receipt, unpack_refusal

RECEIPTS_KEPT: Final = 1024
HINTS_KEPT: Final = 8


class Arrivals:
    """Bounded; over when the connection is. `ignored` counts messages that made no sense."""

    def __init__(self) -> None:
        self.receipts: Stream[Receipt] = Stream(RECEIPTS_KEPT)
        self.hints: Stream[Hint] = Stream(HINTS_KEPT)
        self.answers = Answers()
        self.ignored = 0

    def arrived(self, topic: str, payload: bytes) -> None:
        try:
            self._sort(topic.rpartition("/")[2], payload)
        except (BadBlock, UnicodeDecodeError):
            self.ignored += 1

    def end(self, words: str) -> None:
        self.receipts.end(words)
        self.hints.end(words)
        self.answers.end(words)

    def _sort(self, kind: str, payload: bytes) -> None:
        match kind:
            case "receipt":
                receipt = unpack_receipt(payload)
                self.receipts.put(receipt)
                self.answers.stored(receipt)
            case "refusal":
                self.answers.refused(unpack_refusal(payload))
            case "hint":
                self.hints.put(Hint(payload[:MAX_HINT_CHARACTERS].decode("ascii")))
            case _:
                self.ignored += 1
