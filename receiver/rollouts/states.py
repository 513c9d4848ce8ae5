"""A rollout's life as one table. What isn't in it can't happen."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final

from receiver.rollouts.decide import Move


class State(StrEnum):
    PROPOSED = "proposed"
    RUNNING = "running"
    PAUSED = "paused"  # by a person
    HELD = "held"  # by the rules: evidence is wanting
    HALTED = "halted"  # by the rules: there is evidence against it
    CANCELLED = "cancelled"  # by a person
    DONE = "done"


class Event(StrEnum):
    APPROVED = "approved"
    OPEN = Move.OPEN.value
    HOLD = Move.HOLD.value
    HALT = Move.HALT.value
    FINISH = Move.FINISH.value
    PAUSE = "pause"
    RESUME = "resume"
    GO_ON = "go-on"
    CANCEL = "cancel"


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        (State.PROPOSED, Event.APPROVED): State.RUNNING,
        (State.PROPOSED, Event.CANCEL): State.CANCELLED,
        (State.RUNNING, Event.OPEN): State.RUNNING,
        (State.RUNNING, Event.HOLD): State.HELD,
        (State.RUNNING, Event.HALT): State.HALTED,
        (State.RUNNING, Event.FINISH): State.DONE,
        (State.RUNNING, Event.PAUSE): State.PAUSED,
        (State.RUNNING, Event.CANCEL): State.CANCELLED,
        (State.HELD, Event.OPEN): State.RUNNING,
        (State.HELD, Event.GO_ON): State.RUNNING,
        (State.HELD, Event.HALT): State.HALTED,
        (State.HELD, Event.PAUSE): State.PAUSED,
        (State.HELD, Event.CANCEL): State.CANCELLED,
        (State.PAUSED, Event.RESUME): State.RUNNING,
        (State.PAUSED, Event.HALT): State.HALTED,
        (State.PAUSED, Event.CANCEL): State.CANCELLED,
    }
)

LIVE: Final = (State.RUNNING, State.HELD, State.PAUSED)
"""In these reports decide something."""
LISTING: Final = (State.RUNNING, State.HELD, State.DONE)
"""In these the director lists it for all whose turn has come."""
OVER: Final = (State.HALTED, State.CANCELLED)
"""In these the director lists it no longer."""
ENDED: Final = (*OVER, State.DONE)


class Listed(IntEnum):
    """What the director says of a release for a vehicle."""

    NOT_YET = 0  # or it does, and a kill came before that was noted
    LISTED = 1
    NO_LONGER = 2  # nothing of the kind; or it never was
    RESTORED = 3  # what was before, again
