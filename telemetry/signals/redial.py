"""When a source that is gone is tried again."""

from __future__ import annotations

from random import Random
from typing import Final

from ecu.clock import SECOND_NS, Clock
from telemetry.backoff import backoff_s

RECONNECT_BASE_S: Final = 0.1
RECONNECT_CAP_S: Final = 5.0


class Redial:
    """Full jitter, longer and longer. `attempt` counts the tries since something was heard."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self.attempt = 0
        self._clock = clock
        self._rng = rng

    def heard(self) -> None:
        self.attempt = 0

    def next_ns(self) -> int:
        """The boot time of the next try, which counts from here on."""
        pause_s = backoff_s(self.attempt, self._rng, RECONNECT_BASE_S, RECONNECT_CAP_S)
        self.attempt += 1
        return self._clock.boot_ns() + int(pause_s * SECOND_NS)

    async def pause(self) -> None:
        await self._clock.sleep_until(self.next_ns())
