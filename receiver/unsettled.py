"""What came through a broker while the store is asked whether its sender is welcome."""

from __future__ import annotations

from typing import Final

VEHICLES_KEPT: Final = 10_000
WAITING_PER_VEHICLE: Final = 100
MESSAGE_COST_BYTES: Final = 256
"""What a message takes beside its payload."""

Message = tuple[str, bytes]


class Unsettled:
    """By vehicle, each one's in the order in which they came; bounded by vehicles, by the messages of each, and by the
    bytes of all: a store that doesn't answer must not cost the receiver its memory."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._messages: dict[str, list[Message]] = {}

    def __contains__(self, vehicle: str) -> bool:
        return vehicle in self._messages

    def keep(self, vehicle: str, kind: str, payload: bytes) -> bool:
        """False when there is no room for it."""
        cost, before = _cost(payload), self._messages.get(vehicle)
        is_full = len(self._messages) >= VEHICLES_KEPT if before is None else len(before) >= WAITING_PER_VEHICLE
        if is_full or self._bytes + cost > self._most_bytes:
            return False
        self._messages.setdefault(vehicle, []).append((kind, payload))
        self._bytes += cost
        return True

    def take(self, vehicle: str) -> list[Message]:
        """All of its, for good."""
        messages = self._messages.pop(vehicle, [])
        self._bytes -= sum(_cost(payload) for _, payload in messages)
        return messages


def _cost(payload: bytes) -> int:
    return len(payload) + MESSAGE_COST_BYTES
