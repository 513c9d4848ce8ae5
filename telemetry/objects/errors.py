"""What can become of an object instead: each class is a decision of whoever holds the picture or sends it."""

from __future__ import annotations

from telemetry.objects.counts import Dropped
from telemetry.records import TelemetryError


class ObjectError(TelemetryError):
    """Anything that objects can go wrong with; the subclass says what its caller decides."""


class NotKept(ObjectError):
    """The picture was dropped, and counted under `reason`; nothing that was kept before is touched. Go on without."""

    def __init__(self, reason: Dropped, words: str) -> None:
        super().__init__(words)
        self.reason = reason


class ObjectGone(ObjectError):
    """The object isn't kept any more: evicted, erased, or damaged and counted so just now. Go on with the next."""


class BadObject(ObjectError):
    """These bytes aren't a whole object of this version."""


class ObjectsTooNew(ObjectError):
    """Another release wrote this folder."""
