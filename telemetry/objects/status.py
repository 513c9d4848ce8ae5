"""How the objects' uplink does, for people and for `agent doctor`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from telemetry.objects.format import ObjectRef


class ObjectUplinkState(StrEnum):
    """What it is at; the value is the reason code that status prints."""

    STOPPED = "stopped"
    IDLE = "idle"  # nothing is kept that could be sent
    SENDING = "sending"
    BEHIND_RECORDS = "behind_records"  # records have most of the line
    HELD_BACK = "held_back"  # another network or another day has to come
    WAITING = "waiting"  # the network's, flash's or the receiver's trouble: it tries again
    UNAUTHORIZED = "unauthorized"


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the uplink was made. A slice sent twice counts twice."""

    slices_sent: int = 0
    bytes_sent: int = 0
    stored: int = 0
    refused: int = 0
    mismatches: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class ObjectUplinkStatus:
    """`reason` is words, empty when all is well; `since_ns` is the boot time at which `state` began. `sending` is under
    way, and the receiver has `there` bytes of it."""

    state: ObjectUplinkState
    reason: str
    since_ns: int
    sending: ObjectRef | None
    there: int
    counts: Counts


@dataclass(slots=True)
class Board:
    """What the running part writes and `status` reads."""

    state: ObjectUplinkState = ObjectUplinkState.STOPPED
    reason: str = "not started"
    since_ns: int = 0
    sending: ObjectRef | None = None
    there: int = 0
    counts: Counts = field(default_factory=Counts)

    def enter(self, state: ObjectUplinkState, reason: str, now_ns: int) -> None:
        if (state, reason) != (self.state, self.reason):
            self.state, self.reason, self.since_ns = state, reason, now_ns

    def count(self, **more: int) -> None:
        """Adds to the counters named."""
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + by for name, by in more.items()})

    def status(self) -> ObjectUplinkStatus:
        return ObjectUplinkStatus(self.state, self.reason, self.since_ns, self.sending, self.there, self.counts)
