"""What the doctor says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Gravity(StrEnum):
    """How bad a finding is: `bad` makes the doctor's answer no."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the doctor looked at. `advice` is empty when nothing has to be done."""

    gravity: Gravity
    subject: str
    words: str
    advice: str = ""
