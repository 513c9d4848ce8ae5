"""What comes of two models that see the same frames differently: an alarm, and pictures for people to look at.

It judges nothing: a better model differs, too. One trial's, and bounded: one alarm, and so many pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.perception import Agreement


@dataclass(frozen=True, slots=True)
class DoubtRules:
    """Told of is an agreement (F1 of one model's objects held against the other's) below `alarm_below`, or that the
    candidate sees less than `keeps_below` of what the live one does, from `alarm_frames` compared frames and
    `alarm_objects` objects on. A frame is worth a picture when its own agreement is `picture_below` or less: at most
    `pictures` of them, `apart_frames` compared ones between two."""

    alarm_below: float = 0.3
    keeps_below: float = 0.6
    alarm_frames: int = 50
    alarm_objects: int = 20
    picture_below: float = 0.5
    pictures: int = 8
    apart_frames: int = 25


@dataclass(frozen=True, slots=True)
class DoubtHeard:
    """Who is told: of an alarm in words, and of a wish for a picture with what it is for."""

    alarm: Callable[[str], None]
    picture: Callable[[str], None]


def _nobody(words: str) -> None:
    """Nobody listens."""


UNHEARD = DoubtHeard(_nobody, _nobody)


class Doubts:
    """`title` names what is tried."""

    def __init__(self, title: str, heard: DoubtHeard, rules: DoubtRules | None = None) -> None:
        self._title = title
        self._heard = heard
        self._rules = rules or DoubtRules()
        self._has_alarmed = False
        self._pictures = 0
        self._most_disputed = 0
        self._last_picture = 0

    def note(self, newest: Agreement, whole: Agreement) -> None:
        """Of the newest frame that both have seen, and of all of them, that one included."""
        if not self._has_alarmed and is_low(whole, self._rules):
            self._has_alarmed = True
            self._heard.alarm(f"{self._title}: {in_words(whole)}")
        if self._is_worth_a_picture(newest, whole.frames):
            self._pictures += 1
            self._last_picture = whole.frames
            self._heard.picture(f"models_disagree {1.0 - newest.f1:.2f}")

    def _is_worth_a_picture(self, newest: Agreement, at: int) -> bool:
        """More disputed than the most so far, or nearly: the drive can't be looked at twice."""
        disputed = newest.first_alone + newest.second_alone
        is_much = disputed > 0 and newest.f1 <= self._rules.picture_below and 5 * disputed >= 4 * self._most_disputed
        is_free = not self._pictures or at - self._last_picture >= self._rules.apart_frames
        if is_much and is_free and self._pictures < self._rules.pictures:
            self._most_disputed = max(self._most_disputed, disputed)
            return True
        return False


def is_low(whole: Agreement, rules: DoubtRules) -> bool:
    """Whether the two agree less than they should, and that is known well enough. A much better model sees much that
    the live one doesn't, and nearly all that it does."""
    lives = whole.both + whole.first_alone
    if whole.frames < rules.alarm_frames or lives + whole.second_alone < rules.alarm_objects:
        return False
    return whole.f1 < rules.alarm_below or whole.both < rules.keeps_below * lives


def in_words(whole: Agreement) -> str:
    return (
        f"agreement {whole.f1:.2f} over {whole.frames} frames: {whole.both} objects seen by both, "
        f"{whole.first_alone} by the live model alone, {whole.second_alone} by the candidate alone"
    )
