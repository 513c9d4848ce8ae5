"""What a traffic light showed, confirmed by what the vehicle then did: it stood before it, and then it drove off.

Crops taken while it stood are red, those taken after it began to drive are green, if it then really drove off. What
isn't confirmed in time, or may be of another light, is dropped and counted: offered = confirmed + dropped + waiting.
Yellow is never confirmed this way. Pure: the same crops and speeds say the same.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.privacy.pictures import RedactedCrop
from telemetry.signals.standing import STILL_KMH

RED: Final = "red"
GREEN: Final = "green"


class Unconfirmed(StrEnum):
    """Why nobody can say what a crop showed."""

    MOVING = "moving"  # it was taken on the move: nothing that follows says anything about it
    LATE = "late"  # the vehicle stood longer than anybody remembers a crop
    CREPT = "crept"  # it moved, and didn't drive off: a queue, or a driver who looked
    BRIEF = "brief"  # it hadn't stood for long: a stop sign, a bend
    DOUBTFUL = "doubtful"  # taken just before it drove: the light may have changed before the driver did
    AMBIGUOUS = "ambiguous"  # there was more than one light
    ALIKE = "alike"  # taken right after another one, while nothing changed
    CROWDED = "crowded"  # more than are held at once
    PURGED = "purged"
    UNKNOWN = "unknown"  # the vehicle didn't know its speed meanwhile


class Phase(StrEnum):
    """What the vehicle does."""

    MOVING = "moving"
    STANDING = "standing"
    LEAVING = "leaving"  # it stood, and moves now


@dataclass(frozen=True, slots=True)
class ConfirmationRules:
    """It must stand for `stand_s`, and then reach `away_kmh` within `away_s`. Crops of the last `doubt_s` before it
    moves say nothing, and none is held for longer than `held_s`; of one light one every `apart_s` is enough. `most` are
    held at once."""

    stand_s: float = 4.0
    away_kmh: float = 15.0
    away_s: float = 8.0
    doubt_s: float = 3.0
    held_s: float = 120.0
    apart_s: float = 2.0
    most: int = 16
    unknown_ns: int = 500 * MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class Confirmed:
    crop: RedactedCrop
    label: str


class Confirmation:
    """Takes crops and speeds; crops may come later than the speeds of their time."""

    def __init__(self, rules: ConfirmationRules | None = None) -> None:
        self.phase = Phase.MOVING
        self.offered = 0
        self.confirmed = 0
        self.dropped: Counter[Unconfirmed] = Counter()
        self._rules = rules or ConfirmationRules()
        self._crops: list[RedactedCrop] = []
        self._lights: set[int] = set()
        """Those seen since it stands, whatever was dropped of them; a second one is enough to know."""
        self._last_ns: int | None = None
        self._since_ns = 0  # of standing
        self._left_ns = 0

    @property
    def waiting(self) -> int:
        return len(self._crops)

    def on_crop(self, crop: RedactedCrop) -> None:
        self.offered += 1
        self._forget_old(crop.captured_ns)
        if self.phase is Phase.MOVING or crop.captured_ns < self._since_ns:
            self.dropped[Unconfirmed.MOVING] += 1
            return
        if len(self._lights) < 2:
            self._lights.add(crop.track_id)
        if self._is_alike(crop):
            self.dropped[Unconfirmed.ALIKE] += 1
            return
        self._crops.append(crop)
        if len(self._crops) > self._rules.most:
            # Of one long stop the last are as good as the first.
            self._crops.pop(0)
            self.dropped[Unconfirmed.CROWDED] += 1

    def on_speed(self, t_ns: int, speed_kmh: float) -> list[Confirmed]:
        """What is confirmed by this speed; a speed that isn't finite is an unknown one."""
        if self._last_ns is not None and t_ns < self._last_ns:
            return []
        if not math.isfinite(speed_kmh) or (
            self._last_ns is not None and t_ns - self._last_ns > self._rules.unknown_ns
        ):
            self._give_up(Unconfirmed.UNKNOWN)
        self._last_ns = t_ns
        self._forget_old(t_ns)
        if not math.isfinite(speed_kmh):
            return []
        is_still = abs(speed_kmh) <= STILL_KMH
        match self.phase:
            case Phase.MOVING:
                if is_still:
                    self._stands(t_ns)
            case Phase.STANDING:
                if not is_still:
                    self._moves(t_ns)
            case Phase.LEAVING:
                if is_still:
                    self._give_up(Unconfirmed.CREPT)
                    self._stands(t_ns)
                elif t_ns - self._left_ns > self._rules.away_s * SECOND_NS:
                    self._give_up(Unconfirmed.CREPT)
                elif abs(speed_kmh) >= self._rules.away_kmh:
                    return self._confirm()
        return []

    def forget(self) -> None:
        """What waits is gone; how the vehicle moves is seen anew."""
        self._give_up(Unconfirmed.PURGED)

    # --- within ---

    def _is_alike(self, crop: RedactedCrop) -> bool:
        apart_ns = self._rules.apart_s * SECOND_NS
        left_ns = self._left_ns if self.phase is Phase.LEAVING else math.inf
        return any(
            other.track_id == crop.track_id
            and abs(crop.captured_ns - other.captured_ns) < apart_ns
            and (crop.captured_ns > left_ns) == (other.captured_ns > left_ns)
            for other in self._crops
        )

    def _stands(self, t_ns: int) -> None:
        self.phase, self._since_ns = Phase.STANDING, t_ns

    def _moves(self, t_ns: int) -> None:
        if t_ns - self._since_ns < self._rules.stand_s * SECOND_NS:
            self._give_up(Unconfirmed.BRIEF)
        else:
            self.phase, self._left_ns = Phase.LEAVING, t_ns

    def _give_up(self, why: Unconfirmed) -> None:
        self.phase = Phase.MOVING
        self.dropped[why] += len(self._crops)
        self._crops.clear()
        self._lights.clear()

    def _forget_old(self, t_ns: int) -> None:
        held = [crop for crop in self._crops if t_ns - crop.captured_ns <= self._rules.held_s * SECOND_NS]
        self.dropped[Unconfirmed.LATE] += len(self._crops) - len(held)
        self._crops = held

    def _confirm(self) -> list[Confirmed]:
        if len(self._lights) > 1:
            self._give_up(Unconfirmed.AMBIGUOUS)
            return []
        doubt_from_ns = self._left_ns - int(self._rules.doubt_s * SECOND_NS)
        told = [
            Confirmed(crop, GREEN if crop.captured_ns > self._left_ns else RED)
            for crop in self._crops
            if not doubt_from_ns < crop.captured_ns <= self._left_ns
        ]
        self.confirmed += len(told)
        self.dropped[Unconfirmed.DOUBTFUL] += len(self._crops) - len(told)
        self._crops.clear()
        self._lights.clear()
        self.phase = Phase.MOVING
        return told
