"""The Link port: carries blocks to the cloud and receipts back. One contract suite holds every implementation.

LinkError
├── Unreachable      nobody answered: retry with full jitter
│   └── Untrusted    somebody answered who isn't our receiver: wrong CA, host or dates
├── Throttled        the cloud asks for patience: retry after `after_s`
├── Refused          these bytes will never be taken: quarantine them, send the next
└── Unauthorized     this vehicle isn't welcome: pause, keep everything
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from telemetry.records import Lane, TelemetryError
from telemetry.wire import Receipt

KEEP_ALIVE_S: Final = 30
"""A link that says nothing for so long asks whether the other side is there, and is answered."""


class LinkError(TelemetryError):
    """A link couldn't do it; the subclass says what its caller decides."""


class Unreachable(LinkError):
    """Nobody answered, or the connection broke. Retry with full jitter."""


class Untrusted(Unreachable):
    """Whoever answered couldn't prove to be our receiver. The message says which proof failed."""


class ClockUntrusted(Unreachable):
    """The proof failed on dates alone and our own clock is the suspect: get the time first."""


class Throttled(LinkError):
    """The cloud asks for patience."""

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


class Refused(LinkError):
    """Never retry these bytes. The message says why."""


class Unauthorized(LinkError):
    """This vehicle isn't welcome now: pause, and keep everything."""


class Acks(Enum):
    """What an acceptance means (law 6)."""

    STORED = "stored"  # receipts follow, each for records that the receiver has committed
    ACCEPTED = "accepted"  # a broker took it; nobody says that it was stored


@dataclass(frozen=True, slots=True)
class Accepted:
    """The other side took the block. Not a receipt, unless the link's `acks` is ACCEPTED."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Go and look: nothing in it is believed, `kind` names only where to look."""

    kind: str


class Link(Protocol):
    """Carries blocks to the cloud and receipts back. Accepted is not stored: only a receipt frees a record.

    Every call ends within the implementation's own time-out. One connection at a time; after any Unreachable the
    caller connects again. Nothing is queued inside: what `publish` hasn't returned for isn't sent.
    """

    acks: Acks

    async def connect(self) -> None:
        """Raises Unreachable, Untrusted, ClockUntrusted or Unauthorized. A second call replaces the connection."""
        ...

    async def publish(self, lane: Lane, block: bytes) -> Accepted:
        """Returns when the other side took the block. Raises Unreachable, Throttled, Refused or Unauthorized."""
        ...

    def receipts(self) -> AsyncIterator[Receipt]:
        """What the receiver has stored, as it tells it; ends with Unreachable when the connection does."""
        ...

    def hints(self) -> AsyncIterator[Hint]:
        """Ends with Unreachable when the connection does. At most the newest few are kept."""
        ...

    async def report(self, status: bytes) -> None:
        """Tells the vehicle's own state (JSON). Raises as `publish` does."""
        ...

    async def close(self) -> None:
        """Idempotent; wakes whoever waits."""
        ...
