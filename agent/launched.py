"""The launcher, as far as the runtime under it knows: which slot it started, when it may be asked to start another one,
and whether this runtime does what one should. docs/launcher.md.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.learning.gates import PowerWanted, World, has_power, is_parked
from ota.slots import Slot


class Launched:
    """As what tries runtimes needs it (`Starter`). `world` is how things are, `well` in words what this runtime has
    shown since it began, "" until it is enough; `parked_s` of standing are parked, None where nobody asks."""

    def __init__(
        self,
        running: Slot,
        parked_s: float | None,
        power: PowerWanted,
        world: Callable[[], World],
        well: Callable[[], str],
        has_network: Callable[[], bool],
        restart: Callable[[], None],
    ) -> None:
        self._running = running
        self._parked_s = parked_s
        self._power = power
        self._world = world
        self.is_well = well
        self.has_network = has_network
        self.restart = restart

    @property
    def running(self) -> Slot:
        return self._running

    def may_restart(self) -> str:
        world = self._world()
        if not (is_parked(world, self._parked_s) and has_power(world, self._power)):
            return ""
        return "parked" if self._parked_s is not None else "nobody asks whether it is parked"
