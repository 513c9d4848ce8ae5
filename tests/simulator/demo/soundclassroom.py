"""A classroom's proof with nothing wrong in it."""

from __future__ import annotations

import msgspec

from ota.machine import State
from receiver.learning.answers import AttemptLine
from simulator.demo.classroom import PUPIL, ClassroomProof

ONE_OF_EACH = {"replayed": 1, "stale": 1, "wrong_base": 1}


def attempt(outcome: str, candidate: str = "") -> AttemptLine:
    vehicles = [PUPIL, *(f"demo-fleet-{number:02}" for number in range(1, 12))]
    words = "right 0.960 -> 0.983, difference +0.000 to +0.051: not worse; red: 0.983 -> 0.994"
    return AttemptLine(1, "1.0.1", 0, 1, outcome, words, candidate, vehicles, msgspec.Raw(b"{}"))


def sound_classroom() -> ClassroomProof:
    return ClassroomProof(
        vehicles=12,
        pupil_counted=True,
        asked=dict(ONE_OF_EACH),
        refused=dict(ONE_OF_EACH),
        good=attempt("passed", "candidates/light-state-1.0.1"),
        flipped=attempt("failed"),
        fp32_bytes=41_132,
        update_bytes=911,
        right_before=285,
        right_after=292,
        crops=297,
        excused={"yellow": 9},
        kept=State.COMMITTED,
        in_use=True,
    )
