"""How long an uplink stays away after what went wrong, and what ends that early."""

from __future__ import annotations

import asyncio
from random import Random

from ecu.clock import SECOND_NS, Clock
from telemetry.backoff import backoff_s
from telemetry.links.link import Throttled, Unauthorized
from telemetry.uplink.config import UplinkConfig


class Away:
    """`attempt` counts the failures in a row; whoever gets something done sets it to 0."""

    def __init__(self, clock: Clock, rng: Random, config: UplinkConfig) -> None:
        self.attempt = 0
        self._clock = clock
        self._rng = rng
        self._config = config
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Something changed for the better: a pause under way, or begun before `forget_nudge`, ends at once."""
        self.attempt = 0
        self._nudged.set()

    def forget_nudge(self) -> None:
        self._nudged.clear()

    async def after(self, error: Exception) -> None:
        """As long as this error asks for; of one that asks for nothing, longer and longer."""
        match error:
            case Unauthorized():
                await self._pause(self._config.unauthorized_pause_s)
            case Throttled(after_s=after_s):
                await self._pause(max(0.0, min(self._config.throttle_cap_s, after_s)) + self._backoff_s())
            case _:
                await self._pause(self._backoff_s())

    def _backoff_s(self) -> float:
        self.attempt += 1
        return backoff_s(self.attempt - 1, self._rng, self._config.backoff_base_s, self._config.backoff_cap_s)

    async def _pause(self, seconds: float) -> None:
        until_ns = self._clock.boot_ns() + int(seconds * SECOND_NS)
        slept = asyncio.ensure_future(self._clock.sleep_until(until_ns))
        nudged = asyncio.ensure_future(self._nudged.wait())
        try:
            await asyncio.wait((slept, nudged), return_when=asyncio.FIRST_COMPLETED)
        finally:
            slept.cancel()
            nudged.cancel()
            await asyncio.gather(slept, nudged, return_exceptions=True)
