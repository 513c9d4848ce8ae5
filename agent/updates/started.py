"""A runtime tried by starting it: it waits until the vehicle is parked, runs from the launcher's next start on, and is
kept once it has shown that it works and still finds the way to updates.
"""

from __future__ import annotations

from typing import Protocol

from agent.updates.conduct import Ground
from ecu.clock import SECOND_NS
from ota.kinds import Kind
from ota.machine import Effect, Event, State
from ota.slots import Slot


class Starter(Protocol):
    """What starts the slots of the kind, as far as this process knows of it."""

    @property
    def running(self) -> Slot:
        """The slot that this process was started from."""
        ...

    def may_restart(self) -> str:
        """Why it may begin again now, in words; "" while it may not: the vehicle isn't parked, or has no power."""
        ...

    def restart(self) -> None:
        """Ends this process in order, to be begun again."""
        ...

    def is_well(self) -> str:
        """That it works as a runtime should, in words: it makes progress and has found the way to updates; "" until
        then."""
        ...

    def has_network(self) -> bool:
        """Whether the way to updates can be found at all just now."""
        ...


class Started:
    """Of a runtime."""

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._well_from_ns: int | None = None
        self._state = State.STAGED

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (Kind.RUNTIME,)

    async def act(self, ground: Ground, kind: Kind, effect: Effect) -> None:
        match effect:
            case Effect.AWAIT_REST | Effect.WATCH:
                ground.begin(kind)
                self._well_from_ns = None
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
        return self._proof(ground) if state is State.TRIAL else None

    def _proof(self, ground: Ground) -> tuple[Event, str] | None:
        well, now_ns = self._starter.is_well(), ground.clock.boot_ns()
        if not well:
            self._well_from_ns = None
            return None
        self._well_from_ns = now_ns if self._well_from_ns is None else self._well_from_ns
        lasted_ns = now_ns - self._well_from_ns
        return (Event.PROVEN, f"{well} for {lasted_ns // SECOND_NS} s") if lasted_ns >= ground.rules.prove_ns else None


def _to_run(ground: Ground, kind: Kind) -> Slot:
    """What the next start is to begin."""
    record = ground.record(kind)
    return record.trial if record.trial is not None else record.good
