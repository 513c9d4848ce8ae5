"""How a model release is tried before it is kept, as one table.

The diagram in docs/updates.md is printed from it, a test walks it, and a pair that isn't in it is an error. Nothing
here acts: ota/trial.py makes each step durable and says which effects are due.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ecu.clock import SECOND_NS


class State(StrEnum):
    """Where a trial is. The last three are rests: nothing is tried, and the good slot is live."""

    STAGED = "staged"  # whole on flash, loading beside the live one
    SHADOW = "shadow"  # looks at the live one's frames; its results are seen by the judge alone
    SWITCHED = "switched"  # live, and watched
    COMMITTED = "committed"  # kept: its slot is the good one
    ROLLED_BACK = "rolled_back"  # found worse: its digest is denied for ever
    INCONCLUSIVE = "inconclusive"  # nothing was found out; it may be tried again


class Event(StrEnum):
    """What happens to a trial."""

    DOWNLOADED = "downloaded"  # every block is in the spare slot, and right
    LOADED = "loaded"  # its golden vectors hold on this computer
    UNFIT = "unfit"  # it doesn't load, or not as its golden vectors say
    PASSED = "passed"  # the judge found no class worse, and it isn't too slow
    FAILED = "failed"  # the judge found it worse
    UNDECIDED = "undecided"  # too few objects, or the interval holds both answers
    CRASHED = "crashed"  # its worker died or hung again and again
    PROVEN = "proven"  # live for long enough
    RESTARTED = "restarted"  # the agent began again, for whatever reason
    DAMAGED = "damaged"  # then its bytes weren't what was installed: the flash's fault, not the release's
    EXHAUSTED = "exhausted"  # restarted too often
    EXPIRED = "expired"  # the state's deadline, in powered time, has passed
    CANCELLED = "cancelled"  # the fleet's owner no longer wants it


class Effect(StrEnum):
    """What has to be done about it, in the order given."""

    COUNT_ATTEMPT = "count_attempt"
    START_SHADOW = "start_shadow"
    START_JUDGE = "start_judge"
    SWITCH = "switch"
    SWITCH_BACK = "switch_back"
    STOP_BESIDE = "stop_beside"
    MARK_GOOD = "mark_good"
    RAISE_FLOOR = "raise_floor"
    DENY = "deny"
    REPORT = "report"


RESTS: Final = (State.COMMITTED, State.ROLLED_BACK, State.INCONCLUSIVE)

_BACK: Final = (Effect.STOP_BESIDE, Effect.DENY, Effect.REPORT)
_LEFT: Final = (Effect.STOP_BESIDE, Effect.REPORT)

TRANSITIONS: Final[Mapping[tuple[State, Event], tuple[State, tuple[Effect, ...]]]] = MappingProxyType(
    {
        **{(rest, Event.DOWNLOADED): (State.STAGED, (Effect.REPORT, Effect.START_SHADOW)) for rest in RESTS},
        (State.STAGED, Event.LOADED): (State.SHADOW, (Effect.START_JUDGE, Effect.REPORT)),
        (State.STAGED, Event.UNFIT): (State.ROLLED_BACK, _BACK),
        (State.STAGED, Event.CRASHED): (State.ROLLED_BACK, _BACK),
        (State.STAGED, Event.RESTARTED): (State.STAGED, (Effect.COUNT_ATTEMPT, Effect.START_SHADOW)),
        (State.STAGED, Event.EXHAUSTED): (State.INCONCLUSIVE, _LEFT),
        (State.STAGED, Event.DAMAGED): (State.INCONCLUSIVE, _LEFT),
        (State.STAGED, Event.EXPIRED): (State.INCONCLUSIVE, _LEFT),
        (State.STAGED, Event.CANCELLED): (State.INCONCLUSIVE, _LEFT),
        (State.SHADOW, Event.PASSED): (State.SWITCHED, (Effect.SWITCH, Effect.REPORT)),
        (State.SHADOW, Event.FAILED): (State.ROLLED_BACK, _BACK),
        (State.SHADOW, Event.CRASHED): (State.ROLLED_BACK, _BACK),
        (State.SHADOW, Event.UNFIT): (State.ROLLED_BACK, _BACK),
        (State.SHADOW, Event.UNDECIDED): (State.INCONCLUSIVE, _LEFT),
        (State.SHADOW, Event.RESTARTED): (State.STAGED, (Effect.COUNT_ATTEMPT, Effect.START_SHADOW)),
        (State.SHADOW, Event.EXPIRED): (State.INCONCLUSIVE, _LEFT),
        (State.SHADOW, Event.CANCELLED): (State.INCONCLUSIVE, _LEFT),
        (State.SWITCHED, Event.PROVEN): (
            State.COMMITTED,
            (Effect.MARK_GOOD, Effect.RAISE_FLOOR, Effect.STOP_BESIDE, Effect.REPORT),
        ),
        (State.SWITCHED, Event.CRASHED): (State.ROLLED_BACK, (Effect.SWITCH_BACK, *_BACK)),
        (State.SWITCHED, Event.UNFIT): (State.ROLLED_BACK, (Effect.SWITCH_BACK, *_BACK)),
        (State.SWITCHED, Event.RESTARTED): (State.STAGED, (Effect.COUNT_ATTEMPT, Effect.START_SHADOW)),
        (State.SWITCHED, Event.EXPIRED): (State.INCONCLUSIVE, (Effect.SWITCH_BACK, *_LEFT)),
        (State.SWITCHED, Event.CANCELLED): (State.INCONCLUSIVE, (Effect.SWITCH_BACK, *_LEFT)),
    }
)

ATTEMPTS: Final = 3
"""How often a trial may begin: a power cut within one proves nothing against it."""

DEADLINES_NS: Final[Mapping[State, int]] = MappingProxyType(
    {State.STAGED: 10 * 60 * SECOND_NS, State.SHADOW: 60 * 60 * SECOND_NS, State.SWITCHED: 60 * 60 * SECOND_NS}
)
"""How long each state may last in powered time with frames coming in."""


class NoSuchStep(Exception):
    """A bug: the table has no step for that event in that state."""


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """The next state, and what is due. Raises NoSuchStep."""
    try:
        return TRANSITIONS[state, event]
    except KeyError as error:
        raise NoSuchStep(f"{event} can't happen in {state}") from error


def diagram() -> str:
    """The table as Markdown."""
    lines = ["| in state | on | goes to | and does |", "|---|---|---|---|"]
    lines += [
        f"| {state} | {event} | {after} | {', '.join(effects)} |"
        for (state, event), (after, effects) in TRANSITIONS.items()
    ]
    return "\n".join(lines)
