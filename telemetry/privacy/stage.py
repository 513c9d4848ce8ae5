"""The privacy stage: stands before the spool, and what it doesn't know it drops (law 5)."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from telemetry.privacy.policy import PrivacyPolicy
from telemetry.privacy.position import blur
from telemetry.records import (
    PLACES,
    AnyEvent,
    ClockAnchor,
    Event,
    HardBrake,
    Health,
    Learned,
    LowConfidence,
    NewTrack,
    PerceptionSummary,
    PictureTaken,
    Record,
    UpdateReport,
    VehicleSummary,
    tag_of,
)
from telemetry.signals import vss


class Reason(StrEnum):
    """Why a record was dropped."""

    UNKNOWN_KIND = "unknown_kind"  # this version has no rule for it
    WRONG_PURPOSE = "wrong_purpose"  # it claims a purpose that its kind doesn't serve
    NO_CONSENT = "no_consent"
    DENIED = "denied"  # the deny-list names its kind
    NOTHING_LEFT = "nothing_left"  # the deny-list took what it was about


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nothing of the record may be written or shown."""

    reason: Reason


class Privacy:
    """Applies one policy. `passed` and `dropped` together count every record it was given."""

    def __init__(self, policy: PrivacyPolicy | None = None) -> None:
        self.passed = 0
        self.dropped: Counter[Reason] = Counter()
        self._policy = policy or PrivacyPolicy()
        self._deny = DenyList(self._policy.deny)

    def apply(self, record: Record) -> Record | Dropped:
        """The record as it may be written, or why it may not be."""
        outcome = self._judge(record)
        if isinstance(outcome, Dropped):
            self.dropped[outcome.reason] += 1
        else:
            self.passed += 1
        return outcome

    def forbids(self, kind: type[Event]) -> Reason | None:
        """Why no record of this kind may be told, None when one may: to be asked before anything is taken for it."""
        place = PLACES.get(kind)
        if place is None:
            return Reason.UNKNOWN_KIND
        if place[1] not in self._policy.consents:
            return Reason.NO_CONSENT
        return Reason.DENIED if self._deny.names(tag_of(kind)) else None

    def _judge(self, record: Record) -> Record | Dropped:
        place = PLACES.get(type(record.event))
        if place is not None and record.purpose is not place[1]:
            return Dropped(Reason.WRONG_PURPOSE)
        if (why := self.forbids(type(record.event))) is not None:
            return Dropped(why)
        outcome = self._redacted(record.event)
        return outcome if isinstance(outcome, Dropped) else replace(record, event=outcome)

    def _redacted(self, event: Event) -> AnyEvent | Dropped:
        match event:
            case VehicleSummary(signals):
                allowed = self._signals(signals)
                return VehicleSummary(allowed) if allowed else Dropped(Reason.NOTHING_LEFT)
            case HardBrake():
                return self._hard_brake(event)
            case PerceptionSummary() | NewTrack() | LowConfidence() | PictureTaken():
                return event
            case Health() | UpdateReport() | Learned() | ClockAnchor():
                return event
            case _:
                return Dropped(Reason.UNKNOWN_KIND)

    def _hard_brake(self, event: HardBrake) -> HardBrake | Dropped:
        if self._deny.names(vss.LONGITUDINAL):
            return Dropped(Reason.NOTHING_LEFT)
        speed_kmh = None if self._deny.names(vss.SPEED) else event.speed_kmh
        return HardBrake(event.deceleration_ms2, speed_kmh, self._signals(event.signals))

    def _signals(self, signals: Mapping[str, float]) -> dict[str, float]:
        allowed = {path: value for path, value in signals.items() if not self._deny.names(path)}
        return blur(allowed, self._policy.position, self._policy.cell_m)


class DenyList:
    """Globs over VSS paths and event kinds, in any case: a wrong capital letter must not let anything out."""

    def __init__(self, globs: Iterable[str]) -> None:
        patterns = [fnmatch.translate(glob.casefold()) for glob in globs]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def names(self, name: str) -> bool:
        """True when a glob matches the name or a branch that it lies in."""
        if self._pattern is None:
            return False
        parts = name.casefold().split(".")
        branches = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        return any(self._pattern.match(branch) for branch in branches)
