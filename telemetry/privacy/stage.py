"""The privacy stage: stands before the spool, and what it doesn't know it drops (law 5)."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from ecu.clock import MILLISECOND_NS
from telemetry.privacy.aliases import Aliases
from telemetry.privacy.policy import Position, PrivacyPolicy
from telemetry.privacy.position import blur, is_within, places_of
from telemetry.privacy.whereabouts import Hidden, Whereabouts
from telemetry.records import (
    PLACES,
    AnyEvent,
    ClockAnchor,
    Event,
    HardBrake,
    Health,
    LastKnownState,
    Learned,
    LowConfidence,
    NewTrack,
    PerceptionSummary,
    PictureTaken,
    Purpose,
    Record,
    RecordsLeft,
    SignalBlock,
    Triggered,
    UpdateReport,
    VehicleSummary,
    tag_of,
)
from telemetry.signals import vss

OF_CAMPAIGNS: Final = (SignalBlock, Triggered, LastKnownState)
"""Kinds whose record says itself what it is for."""

PURPOSES_OF_CAMPAIGNS: Final = frozenset({Purpose.SAFETY, Purpose.DRIVING, Purpose.PERCEPTION})
"""What a campaign may be for. Everybody consents to `operation` out of the box, and to `learning` on the promise that
only a model's changes are told: neither may become a name for the driver's signals."""

OF_THE_RUNTIME: Final = (Health, UpdateReport, Learned, RecordsLeft, ClockAnchor)
"""Kinds that say nothing of where the vehicle is: told in a zone, too."""

_TRIGGER: Final = re.compile(r"([a-z][a-z0-9-]*) ([0-9]+)")
"""How a picture's reason names the campaign and the trigger that wanted it."""

_PATH: Final = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")


class Reason(StrEnum):
    """Why a record was dropped."""

    UNKNOWN_KIND = "unknown_kind"  # this version has no rule for it
    WRONG_PURPOSE = "wrong_purpose"  # it claims a purpose that its kind may not serve
    NO_CONSENT = "no_consent"
    DENIED = "denied"  # the deny-list names its kind
    NOTHING_LEFT = "nothing_left"  # the deny-list took what it was about
    IN_ZONE = "in_zone"  # it happened in a zone, or near one
    PLACE_UNKNOWN = "place_unknown"  # there are zones, and nobody knew where the vehicle was


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nothing of the record may be written or shown."""

    reason: Reason


class Privacy:
    """Applies one policy. `passed` and `dropped` together count every record it was given. `entropy` gives that many
    unpredictable bytes: a policy that asks for other names or for coarse time needs it, and gets none without.

    Where there are zones, it has to `hear` the vehicle's signals, or of each `fix`: before any record of that instant.
    """

    def __init__(self, policy: PrivacyPolicy | None = None, entropy: Callable[[int], bytes] | None = None) -> None:
        self.passed = 0
        self.dropped: Counter[Reason] = Counter()
        self._policy = policy or PrivacyPolicy()
        self._deny = DenyList(self._policy.deny)
        self._whereabouts = Whereabouts(self._policy.zones)
        self._round_ns = self._policy.time_round_ms * MILLISECOND_NS
        self._aliases: Aliases | None = None
        # A frame's number is a clock, too.
        if self._policy.pseudonym_rotate_h or self._round_ns:
            if entropy is None:
                raise ValueError("this policy gives other names, and needs entropy for them")
            self._aliases = Aliases(self._policy.pseudonym_rotate_h, entropy)

    # --- where the vehicle is ---------------------------------------------------------------------

    def hear(self, t_ns: int, signals: Mapping[str, float]) -> None:
        """What the vehicle says: its position is in it."""
        self._whereabouts.hear(t_ns, signals)

    def fix(self, t_ns: int, latitude: float, longitude: float) -> None:
        """Where it was, as another process heard."""
        self._whereabouts.fix(t_ns, latitude, longitude)

    def hides(self, t_ns: int) -> Reason | None:
        """Why nothing of that instant may be told, or taken to be told; None when it may."""
        match self._whereabouts.hides(t_ns):
            case None:
                return None
            case Hidden.IN_ZONE:
                return Reason.IN_ZONE
            case Hidden.PLACE_UNKNOWN:
                return Reason.PLACE_UNKNOWN

    # --- what may be told -------------------------------------------------------------------------

    def apply(self, record: Record) -> Record | Dropped:
        """The record as it may be written, or why it may not be."""
        outcome = self._judge(record)
        if isinstance(outcome, Dropped):
            self.dropped[outcome.reason] += 1
        else:
            self.passed += 1
        return outcome

    def forbids(self, kind: type[Event], purpose: Purpose | None = None, at_ns: int | None = None) -> Reason | None:
        """Why no record of this kind may be told, None when one may: to be asked before anything is taken for it.

        `purpose`: whom it would serve, needed for the kinds of campaigns; `at_ns`: the boot time of what it would tell.
        """
        if kind in PLACES:
            own = PLACES[kind][1]
            if purpose not in (None, own):
                return Reason.WRONG_PURPOSE
            purpose = own
        elif kind not in OF_CAMPAIGNS:
            return Reason.UNKNOWN_KIND
        elif purpose is not None and purpose not in PURPOSES_OF_CAMPAIGNS:
            return Reason.WRONG_PURPOSE
        if purpose not in self._policy.consents:
            return Reason.NO_CONSENT
        if self._deny.names(tag_of(kind)):
            return Reason.DENIED
        return None if at_ns is None or kind in OF_THE_RUNTIME else self.hides(at_ns)

    def _judge(self, record: Record) -> Record | Dropped:
        if (why := self.forbids(type(record.event), record.purpose, record.captured_ns)) is not None:
            return Dropped(why)
        outcome = self._redacted(record.event, record.captured_ns)
        if isinstance(outcome, Dropped):
            return outcome
        event = outcome if record.purpose is Purpose.OPERATION else self._renamed(outcome, record.captured_ns)
        return replace(record, event=event, captured_ns=rounded(record.captured_ns, self._round_ns))

    def _redacted(self, event: Event, t_ns: int) -> AnyEvent | Dropped:
        match event:
            case VehicleSummary(signals):
                allowed = self._signals(signals)
                return VehicleSummary(allowed) if allowed else Dropped(Reason.NOTHING_LEFT)
            case HardBrake():
                return self._hard_brake(event)
            case SignalBlock() | Triggered() | LastKnownState():
                return self._asked_for(event, t_ns)
            case PerceptionSummary() | NewTrack() | LowConfidence() | PictureTaken():
                return event
            case Health() | UpdateReport() | Learned() | RecordsLeft() | ClockAnchor():
                return event
            case _:
                return Dropped(Reason.UNKNOWN_KIND)

    def _hard_brake(self, event: HardBrake) -> HardBrake | Dropped:
        if self._deny.names(vss.LONGITUDINAL):
            return Dropped(Reason.NOTHING_LEFT)
        speed_kmh = None if self._deny.names(vss.SPEED) else event.speed_kmh
        return HardBrake(event.deceleration_ms2, speed_kmh, self._signals(event.signals))

    def _asked_for(self, event: SignalBlock | Triggered | LastKnownState, t_ns: int) -> AnyEvent | Dropped:
        if self._deny.names(event.campaign):
            return Dropped(Reason.DENIED)
        match event:
            case SignalBlock():
                return event  # its columns were treated where they were made: telemetry/privacy/columns.py
            case Triggered():
                return msgspec.structs.replace(event, why=self._words(event.why), signals=self._signals(event.signals))
            case LastKnownState():
                known = self._known(event.signals, t_ns)
                return msgspec.structs.replace(event, signals=known) if known else Dropped(Reason.NOTHING_LEFT)

    def _known(self, signals: Mapping[str, tuple[float, int]], t_ns: int) -> dict[str, tuple[float, int]]:
        """What was measured where it may be told, with ages no finer than time is told."""
        seen = {
            path: value for path, (value, age_ms) in signals.items() if not self.hides(t_ns - age_ms * MILLISECOND_NS)
        }
        allowed = self._signals(seen)
        return {path: (value, rounded(signals[path][1], self._policy.time_round_ms)) for path, value in allowed.items()}

    def _words(self, why: str) -> str:
        """Empty when they name what is denied, or a place of which no more than its cell may be told."""
        named = _PATH.findall(why)
        places = () if self._policy.position is Position.EXACT else places_of(named)
        return "" if any(self._deny.names(path) or is_within(path, places) for path in named) else why

    def _signals(self, signals: Mapping[str, float]) -> dict[str, float]:
        allowed = {path: value for path, value in signals.items() if not self._deny.names(path)}
        policy = self._policy
        return blur(allowed, policy.position, policy.cell_m, self._whereabouts.areas, signals)

    def _renamed(self, event: AnyEvent, t_ns: int) -> AnyEvent:
        """With other numbers, where the policy asks for them."""
        if self._aliases is None:
            return event
        of, rename = self._aliases.of, msgspec.structs.replace
        match event:
            case NewTrack() | LowConfidence():
                frame_id, track_id = of(t_ns, "frame", event.frame_id), of(t_ns, "track", event.track_id)
                return rename(event, frame_id=frame_id, track_id=track_id)
            case PictureTaken():
                reason = _TRIGGER.sub(lambda named: self._trigger_alias(t_ns, named), event.reason)
                return rename(event, frame_id=of(t_ns, "frame", event.frame_id), reason=reason)
            case PerceptionSummary():
                return rename(event, last_frame_id=of(t_ns, "frame", event.last_frame_id))
            case Triggered():
                return rename(event, number=of(t_ns, f"trigger {event.campaign}", event.number))
            case _:
                return event

    def _trigger_alias(self, t_ns: int, named: re.Match[str]) -> str:
        assert self._aliases is not None
        return f"{named[1]} {self._aliases.of(t_ns, f'trigger {named[1]}', int(named[2]))}"


def rounded(number: int, to: int) -> int:
    """Down to a multiple of `to`; as it is for 0. What came before never comes after."""
    return number - number % to if to else number


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
