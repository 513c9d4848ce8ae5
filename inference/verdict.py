"""What the judge says of a candidate model: words for people, and the numbers they stand on.

Plain values without a numeric library, since the agent, which has none, reads them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """UNDECIDED is an answer, too: nothing was proven either way, so the candidate is neither kept nor denied."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"


class Score(msgspec.Struct, frozen=True):
    """One model on one class: objects found, false detections, objects missed. `f1` is a fraction of 1."""

    found: int
    false: int
    missed: int
    f1: float


class ClassVerdict(msgspec.Struct, frozen=True):
    """One class. `difference` is F1 of the candidate less that of the live model, between `low` and `high` with 95 %
    confidence. The objects lie in so many `blocks` of neighbouring frames. A score is None where the model doesn't know
    the class."""

    label: str
    outcome: Outcome
    words: str
    objects: int
    blocks: int
    live: Score | None
    candidate: Score | None
    difference: float
    low: float
    high: float


class SpeedVerdict(msgspec.Struct, frozen=True):
    """CPU time: the median over the frames of candidate by live, between `low` and `high` with 95 % confidence; and
    each one's own median for a frame."""

    outcome: Outcome
    words: str
    ratio: float
    low: float
    high: float
    at_most: float
    live_ms: float
    candidate_ms: float


class Verdict(msgspec.Struct, frozen=True):
    """Failed in one part is failed; short of that, undecided in one part is undecided. `lost` are classes of the live
    model that the candidate no longer knows, `unjudged` those of both that the set says nothing of."""

    outcome: Outcome
    words: str
    classes: tuple[ClassVerdict, ...]
    speed: SpeedVerdict
    lost: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
