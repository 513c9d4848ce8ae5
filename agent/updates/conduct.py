"""What trying a release takes beyond flash, as a port: one conductor a way of trying."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from ecu.clock import SECOND_NS, Clock
from ecu.errors import EnvironmentFault, shown
from ota.errors import TrustError
from ota.facts import Budgets
from ota.kinds import Kind
from ota.machine import Effect, Event, State
from ota.slots import BootRecord

TICK_NS: Final = SECOND_NS
HINTS_APART_NS: Final = 10 * SECOND_NS
MOST_WORDS: Final = 4000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrialRules:
    """How long a candidate is watched: frames seen beside the live model, then frames seen while live; a config and a
    runtime for so much powered time. A model that can't take over within `swap_within_s` doesn't. A hint never makes
    two looks closer than `hints_apart_ns`. A model's worker takes at most `memory_ratio_at_most` times the memory of
    the live one's, each at its peak."""

    poll_ns: int
    shadow_frames: int
    prove_frames: int
    swap_within_s: float = 10.0
    hints_apart_ns: int = HINTS_APART_NS
    prove_ns: int = 60 * SECOND_NS
    memory_ratio_at_most: float = 1.5


class NoWayBack(EnvironmentFault):
    """What was good before can't take over from a candidate that was given up. A start boots it."""


class Attempt:
    """One beginning of a trial of that kind. What is told of it once it is over says nothing about the next one."""

    def __init__(self, kind: Kind, told: asyncio.Queue[tuple[Attempt, Event, str]]) -> None:
        self.kind = kind
        self._told = told

    def tell(self, event: Event, words: str) -> None:
        """`words` may quote what a release's author wrote."""
        self._told.put_nowait((self, event, shown(words)[:MOST_WORDS]))


class Ground(Protocol):
    """What conductors stand on: flash, through the one thread that writes it, and tasks that end with the side."""

    rules: TrialRules
    clock: Clock

    def begin(self, kind: Kind) -> Attempt:
        """Of the trial under way; the one before says nothing any more."""
        ...

    def over(self) -> None:
        """Nothing that was told of the trial until now counts."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...

    async def do(self, act: Callable[..., T], *arguments: object) -> T: ...

    async def tell(self, kind: Kind, what: str, words: str) -> None:
        """Of what is good, something that no step of a trial tells."""
        ...

    async def refused(self, kind: Kind, refusal: TrustError) -> None:
        """By another chain than ours, after the download."""
        ...

    async def fell_back(self, kind: Kind, digest: str | None, words: str) -> None:
        """What was good before runs in the place of what is good; whoever started it knows why."""
        ...

    def record(self, kind: Kind) -> BootRecord: ...

    def trial_package(self, kind: Kind) -> Path: ...

    def live_package(self, kind: Kind) -> Path: ...

    def evaluation(self, kind: Kind) -> Path | None:
        """What that kind is judged by, re-hashed just now, and none that is older than what was kept once. Raises
        SlotDamaged, DiskError."""
        ...

    def budgets(self, kind: Kind) -> Budgets:
        """What the release under trial says that it costs at most. Raises DiskError."""
        ...


class Conductor(Protocol):
    """Carries out what one way of trying asks for. Each step is durable before `act` is asked, one at a time."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Those that can be tried here."""
        ...

    async def start(self, ground: Ground) -> None:
        """Once, beside all else, whether anything is tried or not."""
        ...

    async def act(self, ground: Ground, kind: Kind, effect: Effect) -> None: ...

    def has_time_passed(self) -> bool:
        """Whether the tick that just ended counts for the state's deadline. Asked once a tick."""
        ...

    def seen(self, ground: Ground, state: State) -> tuple[Event, str] | None:
        """What can be seen of the trial by now, once it is enough for a step. Asked once a tick."""
        ...
