"""How a release is tried before it is kept, as one table for all kinds.

The diagrams in docs/updates.md are printed from it, a test walks it, and a step that isn't in it is an error. Nothing
here acts: ota/trial.py makes each step durable and says which effects are due.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ecu.clock import SECOND_NS
from ota.kinds import Kind


class Way(StrEnum):
    """How a kind is tried."""

    BESIDE = "beside"  # runs beside the live release, sees what it sees, and takes over between two frames
    APPLIED = "applied"  # takes the live release's place at once, and is watched
    STARTED = "started"  # waits until the vehicle is parked, and runs after the next start
    BOOTED = "booted"  # is installed into the computer's spare system slot while parked, and runs after its next boot
    AT_ONCE = "at_once"  # takes effect when it is whole: whoever uses it admits it, or goes on with the one before


WAYS: Final[Mapping[Kind, Way]] = MappingProxyType(
    {
        Kind.MODEL: Way.BESIDE,
        Kind.STATE: Way.BESIDE,
        Kind.CONFIG: Way.APPLIED,
        Kind.RUNTIME: Way.STARTED,
        Kind.SYSTEM: Way.BOOTED,
        Kind.EVALUATION: Way.AT_ONCE,
        Kind.CROPS: Way.AT_ONCE,
        Kind.CAMPAIGN: Way.AT_ONCE,
        Kind.PLAN: Way.AT_ONCE,
    }
)


class State(StrEnum):
    """Where a trial is. The last three are rests: nothing is tried, and the good slot is live."""

    STAGED = "staged"  # whole on flash: it is made ready, or waits until it may be
    SHADOW = "shadow"  # looks at the live one's frames; its results are seen by the judge alone
    SWITCHED = "switched"  # live, and watched
    ARMED = "armed"  # runs from the next start on
    TRIAL = "trial"  # was started, and is watched
    COMMITTED = "committed"  # kept: its slot is the good one
    ROLLED_BACK = "rolled_back"  # found worse: its digest is denied for ever
    INCONCLUSIVE = "inconclusive"  # nothing was found out; it may be tried again


class Event(StrEnum):
    """What happens to a trial."""

    DOWNLOADED = "downloaded"  # every block is in the spare slot, and right
    LOADED = "loaded"  # its golden vectors hold on this computer
    ADMITTED = "admitted"  # whoever uses it can
    ALLOWED = "allowed"  # the vehicle is parked, has power, and may start again
    INSTALLED = "installed"  # it lies where it is to run from, and whoever wrote it vouches for it
    HINDERED = "hindered"  # it couldn't be written there this time
    UNFIT = "unfit"  # it doesn't load, or not as its golden vectors say; it doesn't start
    PASSED = "passed"  # the judge found no class worse, and it isn't too slow
    FAILED = "failed"  # the judge found it worse
    UNDECIDED = "undecided"  # too few objects, or the interval holds both answers
    CRASHED = "crashed"  # its process died or hung again and again
    PROVEN = "proven"  # live for long enough
    STARTED = "started"  # the launcher, or the bootloader, began it
    RESTARTED = "restarted"  # the agent began again, for whatever reason
    DAMAGED = "damaged"  # then its bytes weren't what was installed: the flash's fault, not the release's
    EXHAUSTED = "exhausted"  # begun too often
    EXPIRED = "expired"  # the state's deadline, in eligible powered time, has passed
    CANCELLED = "cancelled"  # the fleet's owner no longer wants it


class Effect(StrEnum):
    """What has to be done about it, in the order given."""

    COUNT_ATTEMPT = "count_attempt"
    START_SHADOW = "start_shadow"
    START_JUDGE = "start_judge"
    APPLY = "apply"
    AWAIT_REST = "await_rest"
    INSTALL = "install"
    RESTART = "restart"
    WATCH = "watch"
    SWITCH = "switch"
    SWITCH_BACK = "switch_back"
    STOP_BESIDE = "stop_beside"
    MARK_GOOD = "mark_good"
    RAISE_FLOOR = "raise_floor"
    DENY = "deny"
    REPORT = "report"


INWARD: Final = frozenset({Effect.COUNT_ATTEMPT, Effect.MARK_GOOD, Effect.RAISE_FLOOR, Effect.DENY})
"""Made durable with the step itself, before anybody is asked to act."""

RESTS: Final = (State.COMMITTED, State.ROLLED_BACK, State.INCONCLUSIVE)

_KEPT: Final = (Effect.MARK_GOOD, Effect.RAISE_FLOOR)
_BACK: Final = (Effect.STOP_BESIDE, Effect.DENY, Effect.REPORT)
_LEFT: Final = (Effect.STOP_BESIDE, Effect.REPORT)
_AGAIN: Final = (Effect.COUNT_ATTEMPT, Effect.START_SHADOW)

Steps = Mapping[tuple[State, Event], tuple[State, tuple[Effect, ...]]]

_BESIDE: Final[Steps] = {
    **{(rest, Event.DOWNLOADED): (State.STAGED, (Effect.REPORT, Effect.START_SHADOW)) for rest in RESTS},
    (State.STAGED, Event.LOADED): (State.SHADOW, (Effect.START_JUDGE, Effect.REPORT)),
    (State.STAGED, Event.UNFIT): (State.ROLLED_BACK, _BACK),
    (State.STAGED, Event.CRASHED): (State.ROLLED_BACK, _BACK),
    (State.STAGED, Event.RESTARTED): (State.STAGED, _AGAIN),
    (State.STAGED, Event.EXHAUSTED): (State.INCONCLUSIVE, _LEFT),
    (State.STAGED, Event.DAMAGED): (State.INCONCLUSIVE, _LEFT),
    (State.STAGED, Event.EXPIRED): (State.INCONCLUSIVE, _LEFT),
    (State.STAGED, Event.CANCELLED): (State.INCONCLUSIVE, _LEFT),
    (State.SHADOW, Event.PASSED): (State.SWITCHED, (Effect.SWITCH, Effect.REPORT)),
    (State.SHADOW, Event.FAILED): (State.ROLLED_BACK, _BACK),
    (State.SHADOW, Event.CRASHED): (State.ROLLED_BACK, _BACK),
    (State.SHADOW, Event.UNFIT): (State.ROLLED_BACK, _BACK),
    (State.SHADOW, Event.UNDECIDED): (State.INCONCLUSIVE, _LEFT),
    (State.SHADOW, Event.RESTARTED): (State.STAGED, _AGAIN),
    (State.SHADOW, Event.EXPIRED): (State.INCONCLUSIVE, _LEFT),
    (State.SHADOW, Event.CANCELLED): (State.INCONCLUSIVE, _LEFT),
    (State.SWITCHED, Event.PROVEN): (State.COMMITTED, (*_KEPT, Effect.STOP_BESIDE, Effect.REPORT)),
    (State.SWITCHED, Event.CRASHED): (State.ROLLED_BACK, (Effect.SWITCH_BACK, *_BACK)),
    (State.SWITCHED, Event.UNFIT): (State.ROLLED_BACK, (Effect.SWITCH_BACK, *_BACK)),
    (State.SWITCHED, Event.RESTARTED): (State.STAGED, _AGAIN),
    (State.SWITCHED, Event.EXPIRED): (State.INCONCLUSIVE, (Effect.SWITCH_BACK, *_LEFT)),
    (State.SWITCHED, Event.CANCELLED): (State.INCONCLUSIVE, (Effect.SWITCH_BACK, *_LEFT)),
}

_UNAPPLIED: Final = (Effect.SWITCH_BACK, Effect.REPORT)

_APPLIED: Final[Steps] = {
    **{(rest, Event.DOWNLOADED): (State.STAGED, (Effect.REPORT, Effect.APPLY)) for rest in RESTS},
    (State.STAGED, Event.ADMITTED): (State.SWITCHED, (Effect.WATCH, Effect.REPORT)),
    (State.STAGED, Event.UNFIT): (State.ROLLED_BACK, (Effect.SWITCH_BACK, Effect.DENY, Effect.REPORT)),
    (State.STAGED, Event.RESTARTED): (State.STAGED, (Effect.COUNT_ATTEMPT, Effect.APPLY)),
    (State.STAGED, Event.EXHAUSTED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.STAGED, Event.DAMAGED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.STAGED, Event.EXPIRED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.STAGED, Event.CANCELLED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.SWITCHED, Event.PROVEN): (State.COMMITTED, (*_KEPT, Effect.REPORT)),
    (State.SWITCHED, Event.CRASHED): (State.ROLLED_BACK, (Effect.SWITCH_BACK, Effect.DENY, Effect.REPORT)),
    (State.SWITCHED, Event.UNFIT): (State.ROLLED_BACK, (Effect.SWITCH_BACK, Effect.DENY, Effect.REPORT)),
    (State.SWITCHED, Event.RESTARTED): (State.STAGED, (Effect.COUNT_ATTEMPT, Effect.APPLY)),
    (State.SWITCHED, Event.EXPIRED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.SWITCHED, Event.CANCELLED): (State.INCONCLUSIVE, _UNAPPLIED),
}

# What was started ends by its verdict, within its deadline: there is no cancelling it, since nobody but itself could be
# told. Its attempts are counted by whoever starts it, before it does.
_STARTED: Final[Steps] = {
    **{(rest, Event.DOWNLOADED): (State.STAGED, (Effect.REPORT, Effect.AWAIT_REST)) for rest in RESTS},
    (State.STAGED, Event.ALLOWED): (State.ARMED, (Effect.REPORT, Effect.RESTART)),
    (State.STAGED, Event.UNFIT): (State.ROLLED_BACK, (Effect.DENY, Effect.REPORT)),
    (State.STAGED, Event.RESTARTED): (State.STAGED, (Effect.AWAIT_REST,)),
    (State.STAGED, Event.EXHAUSTED): (State.INCONCLUSIVE, (Effect.REPORT,)),
    (State.STAGED, Event.DAMAGED): (State.INCONCLUSIVE, (Effect.REPORT,)),
    (State.STAGED, Event.EXPIRED): (State.INCONCLUSIVE, (Effect.REPORT,)),
    (State.STAGED, Event.CANCELLED): (State.INCONCLUSIVE, (Effect.REPORT,)),
    (State.ARMED, Event.STARTED): (State.TRIAL, (Effect.WATCH, Effect.REPORT)),
    (State.ARMED, Event.RESTARTED): (State.STAGED, (Effect.COUNT_ATTEMPT, Effect.AWAIT_REST)),
    (State.ARMED, Event.DAMAGED): (State.INCONCLUSIVE, (Effect.REPORT,)),
    (State.ARMED, Event.EXPIRED): (State.INCONCLUSIVE, (Effect.REPORT,)),
    (State.ARMED, Event.CANCELLED): (State.INCONCLUSIVE, (Effect.REPORT,)),
    (State.TRIAL, Event.STARTED): (State.TRIAL, (Effect.WATCH,)),
    (State.TRIAL, Event.PROVEN): (State.COMMITTED, (*_KEPT, Effect.REPORT)),
    (State.TRIAL, Event.UNFIT): (State.ROLLED_BACK, (Effect.DENY, Effect.REPORT, Effect.RESTART)),
    (State.TRIAL, Event.DAMAGED): (State.INCONCLUSIVE, (Effect.REPORT, Effect.RESTART)),
    (State.TRIAL, Event.EXHAUSTED): (State.INCONCLUSIVE, (Effect.REPORT, Effect.RESTART)),
    (State.TRIAL, Event.EXPIRED): (State.INCONCLUSIVE, (Effect.REPORT, Effect.RESTART)),
}

# The bootloader counts its starts, and goes back by itself. Every way out tells it so. While it is written to where it
# is to run from it stays staged: the boot record's states are frozen.
_BOOTED: Final[Steps] = {
    **{(rest, Event.DOWNLOADED): (State.STAGED, (Effect.REPORT, Effect.AWAIT_REST)) for rest in RESTS},
    (State.STAGED, Event.ALLOWED): (State.STAGED, (Effect.COUNT_ATTEMPT, Effect.INSTALL)),
    (State.STAGED, Event.HINDERED): (State.STAGED, (Effect.AWAIT_REST,)),
    (State.STAGED, Event.RESTARTED): (State.STAGED, (Effect.AWAIT_REST,)),
    (State.STAGED, Event.INSTALLED): (State.ARMED, (Effect.REPORT, Effect.RESTART)),
    (State.STAGED, Event.UNFIT): (State.ROLLED_BACK, (Effect.SWITCH_BACK, Effect.DENY, Effect.REPORT)),
    (State.STAGED, Event.EXHAUSTED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.STAGED, Event.DAMAGED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.STAGED, Event.EXPIRED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.STAGED, Event.CANCELLED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.ARMED, Event.STARTED): (State.TRIAL, (Effect.WATCH, Effect.REPORT)),
    (State.ARMED, Event.RESTARTED): (State.ARMED, (Effect.AWAIT_REST,)),
    (State.ARMED, Event.UNFIT): (State.ROLLED_BACK, (Effect.SWITCH_BACK, Effect.DENY, Effect.REPORT)),
    (State.ARMED, Event.EXHAUSTED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.ARMED, Event.DAMAGED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.ARMED, Event.EXPIRED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.ARMED, Event.CANCELLED): (State.INCONCLUSIVE, _UNAPPLIED),
    (State.TRIAL, Event.STARTED): (State.TRIAL, (Effect.WATCH,)),
    (State.TRIAL, Event.RESTARTED): (State.TRIAL, (Effect.AWAIT_REST,)),
    (State.TRIAL, Event.PROVEN): (State.COMMITTED, (*_KEPT, Effect.REPORT)),
    (State.TRIAL, Event.UNFIT): (State.ROLLED_BACK, (Effect.SWITCH_BACK, Effect.DENY, Effect.REPORT, Effect.RESTART)),
    (State.TRIAL, Event.DAMAGED): (State.INCONCLUSIVE, (*_UNAPPLIED, Effect.RESTART)),
    (State.TRIAL, Event.EXHAUSTED): (State.INCONCLUSIVE, (*_UNAPPLIED, Effect.RESTART)),
    (State.TRIAL, Event.EXPIRED): (State.INCONCLUSIVE, (*_UNAPPLIED, Effect.RESTART)),
}

_AT_ONCE: Final[Steps] = {
    (rest, Event.DOWNLOADED): (State.COMMITTED, (*_KEPT, Effect.REPORT)) for rest in RESTS
}  # fmt: skip

TRANSITIONS: Final[Mapping[Way, Steps]] = MappingProxyType(
    {
        Way.BESIDE: MappingProxyType(_BESIDE),
        Way.APPLIED: MappingProxyType(_APPLIED),
        Way.STARTED: MappingProxyType(_STARTED),
        Way.BOOTED: MappingProxyType(_BOOTED),
        Way.AT_ONCE: MappingProxyType(_AT_ONCE),
    }
)

ATTEMPTS: Final = 3
"""How often a trial may begin: a power cut within one proves nothing against it."""

LEFT_AT_MOST: Final = 3
"""How often in a row what only a start can try may come to nothing, until its fleet assigns it anew: each time costs
starts of a vehicle that works."""

_MINUTE_NS: Final = 60 * SECOND_NS
_HOUR_NS: Final = 60 * _MINUTE_NS
DEADLINES_NS: Final[Mapping[Way, Mapping[State, int]]] = MappingProxyType(
    {
        Way.BESIDE: {State.STAGED: 10 * _MINUTE_NS, State.SHADOW: _HOUR_NS, State.SWITCHED: _HOUR_NS},
        Way.APPLIED: {State.STAGED: 10 * _MINUTE_NS, State.SWITCHED: _HOUR_NS},
        # A vehicle that works in shifts is seldom parked with its computer on.
        Way.STARTED: {State.STAGED: 7 * 24 * _HOUR_NS, State.ARMED: _HOUR_NS, State.TRIAL: _HOUR_NS},
        Way.BOOTED: {State.STAGED: 7 * 24 * _HOUR_NS, State.ARMED: _HOUR_NS, State.TRIAL: _HOUR_NS},
        Way.AT_ONCE: {},
    }
)
"""How long each state may last in eligible powered time: for what looks at frames, while frames come in."""


class NoSuchStep(Exception):
    """A bug: the table has no step for that event in that state."""


def step(way: Way, state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """The next state, and what is due. Raises NoSuchStep."""
    try:
        return TRANSITIONS[way][state, event]
    except KeyError as error:
        raise NoSuchStep(f"{event} can't happen in {state} of what is tried {way}") from error


def can_happen(way: Way, state: State, event: Event) -> bool:
    return (state, event) in TRANSITIONS[way]


def states(way: Way) -> set[State]:
    """All that a kind of that way can be in."""
    return {state for state, _ in TRANSITIONS[way]} | {after for after, _ in TRANSITIONS[way].values()} | set(RESTS)


def diagram(way: Way) -> str:
    """The way's part of the table as Markdown."""
    return "\n".join(("| in state | on | goes to | and does |", "|---|---|---|---|", *_rows(way)))


def _rows(way: Way) -> Iterator[str]:
    for (state, event), (after, effects) in TRANSITIONS[way].items():
        yield f"| {state} | {event} | {after} | {', '.join(effects)} |"
