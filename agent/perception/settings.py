"""What one camera's perception is made of, and what its keepers need from the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol, TypeVar, assert_never

from agent.children import Child
from ecu.clock import SECOND_NS, Clock, SystemClock

LOCKSTEP_HANG_NS: Final = 60 * SECOND_NS

In = TypeVar("In")


class StartsChildren(Protocol):
    """As `Child.start`."""

    async def __call__(
        self,
        module: str,
        arguments: Sequence[str],
        accepts: Any,
        on_message: Callable[[Child[In], In], None],
        on_closed: Callable[[Child[In]], None],
        environment: Mapping[str, str],
    ) -> Child[In]: ...


class Role(Enum):
    """What a package does in a worker."""

    OBJECTS = "objects"  # finds them in the whole frame
    STATES = "states"  # tells the state of those that it knows


@dataclass(frozen=True, slots=True)
class PerceptionSettings:
    """One camera and one model, and one that tells states of what it finds, if any. `threads` 0 lets the workers see
    what they can afford; `fingerprint` has each frame's pixels hashed (replay)."""

    source: str
    camera: str
    package: Path
    slots: int
    hang_ns: int
    lockstep: bool
    stall_ns: int = 10 * SECOND_NS
    threads: int = 0
    standby: bool = True
    fingerprint: bool = False
    states: Path | None = None

    def with_package(self, role: Role, package: Path) -> PerceptionSettings:
        """The same with another package in that role."""
        match role:
            case Role.OBJECTS:
                return replace(self, package=package)
            case Role.STATES:
                return replace(self, states=package)
            case _:
                assert_never(role)

    @property
    def result_within_ns(self) -> int:
        """A worker that gives none for so long hangs. In lockstep a busy computer may take its time."""
        return LOCKSTEP_HANG_NS if self.lockstep else self.hang_ns

    @property
    def word_within_s(self) -> float | None:
        """A camera that says nothing for so long hangs; None in lockstep, where it speaks when asked."""
        return None if self.lockstep else self.stall_ns / SECOND_NS


@dataclass(frozen=True, slots=True)
class Supervision:
    """For keeping processes alive: `clock` is real time, also when the frames' own time is granted step by step."""

    rng: Random
    environment: Mapping[str, str]
    clock: Clock = field(default_factory=SystemClock)
    start: StartsChildren = Child.start
