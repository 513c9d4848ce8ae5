"""The ObjectLink port: asks the receiver what it has of an object, and sends it the next slice.

Its errors are the links' few (telemetry/links/link.py), and one more:

LinkError
└── Refused
    └── Mismatch    what came together at the receiver isn't what was named: once more from the start, then never again
"""

from __future__ import annotations

from typing import Protocol

from telemetry.links.link import Refused
from telemetry.objects.wire import ByteRange, Have


class Mismatch(Refused):
    """The receiver's bytes didn't have the object's digest, and it threw them away."""


class ObjectLink(Protocol):
    """Brings objects to the receiver slice by slice. Stored is said only of what the receiver has checked and committed
    (law 6); whatever the receiver says that it has is where to go on, whatever was sent before.

    It blocks, each call within the implementation's time-outs, and one thread uses it. Raises Unreachable, Throttled,
    Refused (never these bytes again), Mismatch or Unauthorized.
    """

    def look(self, sha256: str) -> Have:
        """What the receiver has of this object, from an earlier connection or life."""
        ...

    def send(self, sha256: str, part: ByteRange, data: bytes) -> Have:
        """What it has after these bytes, `part.size` of them. When they weren't the ones to go on with, it has taken
        none of them."""
        ...

    def interrupt(self) -> None:
        """From any thread: whoever waits in a call hears Unreachable soon. The link can be used again."""
        ...

    def close(self) -> None:
        """By the thread that uses it. Idempotent; the next call connects again."""
        ...
