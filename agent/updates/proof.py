"""What a runtime or a system has to show before it is kept: that it works, without a pause, for long enough."""

from __future__ import annotations

from typing import Protocol

from agent.updates.conduct import TICK_NS, Ground
from ecu.clock import SECOND_NS


class Surroundings(Protocol):
    """The vehicle around what only another start can try."""

    def may_restart(self) -> str:
        """Why it may begin again now, in words; "" while it may not: the vehicle isn't parked, or has no power."""
        ...

    def is_well(self) -> str:
        """That it works as a runtime should, in words: it makes progress and has found the way to updates; "" until
        then."""
        ...

    def has_network(self) -> bool:
        """Whether the way to updates can be found at all just now."""
        ...


class Proof:
    """Asked once a tick, and each counts as one, however long ago the last one was: who sleeps shows nothing."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._well_ns: int | None = None

    def begin(self) -> None:
        self._well_ns = None

    def given(self, ground: Ground) -> str:
        """In words, once it is enough; "" until then."""
        well = self._surroundings.is_well()
        if not well:
            self._well_ns = None
            return ""
        self._well_ns = 0 if self._well_ns is None else self._well_ns + TICK_NS
        return f"{well} for {self._well_ns // SECOND_NS} s" if self._well_ns >= ground.rules.prove_ns else ""
