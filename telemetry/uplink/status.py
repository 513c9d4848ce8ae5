"""How the uplink does, for people and for `agent doctor`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from telemetry.uplink.meter import MeterStatus


class UplinkState(StrEnum):
    """What the uplink is at; the value is the reason code that status prints."""

    STOPPED = "stopped"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    THROTTLED = "throttled"
    HELD_BACK = "held_back"  # connected, and something waits for another network or another day
    WAITING = "waiting"
    CLOCK_UNTRUSTED = "clock_untrusted"
    UNAUTHORIZED = "unauthorized"


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the uplink was made. Sent means that the link accepted it; a block sent twice counts twice."""

    attempts: int = 0
    blocks_sent: int = 0
    records_sent: int = 0
    bytes_sent: int = 0
    records_freed: int = 0
    blocks_refused: int = 0
    blocks_lost: int = 0
    receipts: int = 0
    receipts_beyond_sent: int = 0
    last_receipt_ns: int | None = None


@dataclass(frozen=True, slots=True)
class UplinkStatus:
    """`reason` is words, empty when all is well; `since_ns` is the boot time at which `state` began."""

    state: UplinkState
    reason: str
    since_ns: int
    law6_held: bool
    in_flight: int
    counts: Counts
    meter: MeterStatus

    @property
    def connected(self) -> bool:
        return self.state in (UplinkState.CONNECTED, UplinkState.THROTTLED, UplinkState.HELD_BACK)


@dataclass(slots=True)
class Board:
    """What the running parts write and `status` reads."""

    state: UplinkState = UplinkState.STOPPED
    reason: str = "not started"
    since_ns: int = 0
    in_flight: int = 0
    counts: Counts = field(default_factory=Counts)

    def enter(self, state: UplinkState, reason: str, now_ns: int) -> None:
        self.state, self.reason, self.since_ns = state, reason, now_ns

    def count(self, **more: int) -> None:
        """Adds to the counters named."""
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + by for name, by in more.items()})

    def received(self, now_ns: int, beyond_sent: int) -> None:
        self.counts = replace(self.counts, last_receipt_ns=now_ns)
        self.count(receipts=1, receipts_beyond_sent=beyond_sent)

    def status(self, law6_held: bool, meter: MeterStatus) -> UplinkStatus:
        return UplinkStatus(self.state, self.reason, self.since_ns, law6_held, self.in_flight, self.counts, meter)
