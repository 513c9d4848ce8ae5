"""How soon a process that ended is started again."""

from __future__ import annotations

from random import Random

from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock

HEALTHY_LIFE_NS = 5 * SECOND_NS
FIRST_CAP_NS = 100 * MILLISECOND_NS
LAST_CAP_NS = 10 * SECOND_NS


class Restarts:
    """At once after a healthy life; with full jitter after each quick death in a row: a broken part must not eat the
    computer."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self._began_ns = 0
        self.started = 0
        self.quick_deaths = 0

    def begins(self) -> None:
        self._began_ns = self._clock.boot_ns()
        self.started += 1

    async def pause(self, was_hung: bool = False) -> None:
        """Call after a death; returns when the next life may begin. A life that hung was no healthy one."""
        now_ns = self._clock.boot_ns()
        if now_ns - self._began_ns >= HEALTHY_LIFE_NS and not was_hung:
            self.quick_deaths = 0
            return
        self.quick_deaths += 1
        if self.quick_deaths > 1:
            cap_ns = min(LAST_CAP_NS, FIRST_CAP_NS * 2 ** min(self.quick_deaths, 10))
            await self._clock.sleep_until(now_ns + self._rng.randrange(cap_ns))
