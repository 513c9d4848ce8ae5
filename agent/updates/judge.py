"""Who compares a candidate to what is live, as a port."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ota.machine import Event


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the judge says: PASSED, FAILED or UNDECIDED, and why in words."""

    event: Event
    words: str


class Judge(Protocol):
    """Compares two packages on a labelled set (owned here; inference has the one that ships)."""

    async def judge(
        self, live: Path, candidate: Path, evaluation: Path | None, cpu_at_most: float | None = None
    ) -> Opinion:
        """Whatever keeps it from an opinion is UNDECIDED. `cpu_at_most` times the live one's CPU time the candidate
        says that it takes, where it says so. Cancelled when the trial ends before."""
        ...
