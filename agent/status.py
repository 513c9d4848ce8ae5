"""What the agent says about itself: one frozen value, the answer of `GET /status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.gallery import GalleryStatus
from agent.learning.status import LearningStatus
from agent.perception import PerceptionStatus
from agent.signals.room import SignalRoomStatus
from ota.updates import UpdateStatus
from telemetry.signals import SignalStatus
from telemetry.spool.counts import SpoolCounts
from telemetry.uplink.allowance import Held
from telemetry.uplink.status import UplinkStatus


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """`wall_ns` as the agent believes it; `offset_ns` is what it adds to the computer's own wall clock."""

    boot_ns: int
    wall_ns: int
    offset_ns: int


@dataclass(frozen=True, slots=True)
class CloudStatus:
    """The way to the receiver. `paired_with` is None until this vehicle was paired."""

    paired_with: str | None
    vehicle: str | None
    link: str
    certificate_ends_ns: int | None
    uplink: UplinkStatus | None


@dataclass(frozen=True, slots=True)
class UpdatesStatus:
    """Signed releases on this vehicle. `trouble` is why the last look came to nothing, empty when it didn't; `fetched`
    of `whole` bytes while one is being fetched. `looks` are those that came to an end, since the start. `waits`: why
    nothing that takes room is fetched over this network or today."""

    kinds: tuple[UpdateStatus, ...]
    trouble: str
    whole: int
    fetched: int
    looks: int = 0
    waits: Held | None = None


@dataclass(frozen=True, slots=True)
class PrivacyStatus:
    """Records that passed the privacy stage, and those it dropped, by reason. `hidden`: why nothing of just now would
    pass (telemetry.privacy.stage.Reason), empty when it would, or when there are no zones."""

    passed: int
    dropped: Mapping[str, int]
    consents: tuple[str, ...]
    zones: int = 0
    hidden: str = ""


@dataclass(frozen=True, slots=True)
class WitnessStatus:
    """Confirmations told to the witness, and those nobody took."""

    told: int
    untold: int


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """All of it. `law_1_holds` and `law_2_holds` are computed from both sides of their sums, just now."""

    version: str
    pid: int
    running_since_ns: int
    lockstep: bool
    drive_ended: bool
    clock: ClockStatus
    perception: PerceptionStatus | None
    signals: SignalStatus | None
    campaigns: SignalRoomStatus
    privacy: PrivacyStatus
    spool: SpoolCounts
    law_1_holds: bool
    law_2_holds: bool | None
    law_6_holds: bool
    cloud: CloudStatus
    updates: UpdatesStatus | None
    gallery: GalleryStatus | None
    learning: LearningStatus | None
    witness: WitnessStatus | None
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What never became a record, or never reached whoever asked, by what it was."""
