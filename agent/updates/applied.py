"""A release that takes the place of the one before at once, and is watched: what signals mean (kind `config`).

Whoever uses it says whether it can, and goes on with the one before where it can't.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from agent.updates.conduct import TICK_NS, Ground
from agent.uses import Use
from ecu.clock import SECOND_NS
from ota.kinds import Kind
from ota.machine import Effect, Event, State


class User(Protocol):
    """Uses whatever release of its kind is to be live."""

    def use_of(self, folder: Path) -> tuple[Use, str]:
        """Of the release in that folder, and why in words. Quick."""
        ...


class Applied:
    """One kind's. The release under trial is the one to use for as long as the trial lasts."""

    def __init__(self, kind: Kind, user: User) -> None:
        self._kind = kind
        self._user = user
        self._use = Use.AWAITED
        self._live_ns = 0

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (self._kind,)

    async def start(self, ground: Ground) -> None: ...

    async def act(self, ground: Ground, kind: Kind, effect: Effect) -> None:
        match effect:
            case Effect.APPLY:
                ground.begin(kind)
            case Effect.WATCH:
                self._live_ns = 0
            case Effect.SWITCH_BACK:
                ground.over()
            case _:
                raise AssertionError(f"{effect} is nothing for what is applied")

    def has_time_passed(self) -> bool:
        return True

    def seen(self, ground: Ground, state: State) -> tuple[Event, str] | None:
        use, words = self._user.use_of(ground.trial_package(self._kind))
        if use is Use.REFUSED:
            return Event.UNFIT, words
        if use is Use.AWAITED:
            return None
        if state is State.STAGED:
            return Event.ADMITTED, "it is in use"
        # A tick, however long ago the last one was: nothing is in use while the computer sleeps.
        self._live_ns += TICK_NS
        return (Event.PROVEN, f"in use for {self._live_ns // SECOND_NS} s") if self._is_enough(ground) else None

    def _is_enough(self, ground: Ground) -> bool:
        return self._live_ns >= ground.rules.prove_ns
