"""A runtime tried by starting it: it waits until the vehicle is parked, runs from the launcher's next start on, and is
kept once it has shown that it works and still finds the way to updates.
"""

from __future__ import annotations

from typing import Protocol

from agent.updates.conduct import Ground
from agent.updates.proof import Proof, Surroundings
from ota.kinds import Kind
from ota.machine import Effect, Event, State
from ota.slots import Slot


class Starter(Surroundings, Protocol):
    """What starts the slots of the kind, as far as this process knows of it."""

    @property
    def running(self) -> Slot:
        """The slot that this process was started from."""
        ...

    def restart(self) -> None:
        """Ends this process in order, to be begun again."""
        ...


class Started:
    """Of a runtime."""

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._proof = Proof(starter)
        self._state = State.STAGED

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (Kind.RUNTIME,)

    async def start(self, ground: Ground) -> None: ...

    async def act(self, ground: Ground, kind: Kind, effect: Effect) -> None:
        match effect:
            case Effect.AWAIT_REST | Effect.WATCH:
                ground.begin(kind)
                self._proof.begin()
            case Effect.RESTART:
                if self._starter.running is not _to_run(ground, kind):
                    self._starter.restart()
            case _:
                raise AssertionError(f"{effect} is nothing for what is started")

    def has_time_passed(self) -> bool:
        """A new runtime that can't find the way to updates isn't to blame while there is none."""
        return self._state is not State.TRIAL or self._starter.has_network()

    def seen(self, ground: Ground, state: State) -> tuple[Event, str] | None:
        self._state = state
        if state is State.STAGED:
            rest = self._starter.may_restart()
            return (Event.ALLOWED, rest) if rest else None
        proof = self._proof.given(ground) if state is State.TRIAL else ""
        return (Event.PROVEN, proof) if proof else None


def _to_run(ground: Ground, kind: Kind) -> Slot:
    """What the next start is to begin."""
    record = ground.record(kind)
    return record.trial if record.trial is not None else record.good
