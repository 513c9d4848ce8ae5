"""Who may have the next segment, and who loses one for it. Pure; the acts are in log.py.

A lane's reserve is its own, used or not. What is beyond the reserves goes to whoever asks first; once it is all taken,
the lowest lane loses its oldest segment first. No lane ever costs a higher one anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from telemetry.records import Lane
from telemetry.spool.limits import SpoolLimits


class Room(Enum):
    """Where a segment can come from, other than from somebody else."""

    THERE = auto()  # a free file, or a new one within max_bytes
    NONE = auto()  # nobody can be evicted for this lane


@dataclass(frozen=True, slots=True)
class Evict:
    """The oldest segment of this lane that isn't busy has to go first."""

    lane: Lane


@dataclass(frozen=True, slots=True)
class Holding:
    """What a lane has: all its segments, and how many of them aren't busy."""

    segments: int
    evictable: int


def room_for(lane: Lane, held: Mapping[Lane, Holding], unusable: int, limits: SpoolLimits) -> Room | Evict:
    """The next step towards a segment for `lane`; `unusable` files count against max_bytes and hold nothing."""
    vacant = limits.max_segments - unusable - sum(holding.segments for holding in held.values())
    promised = sum(max(0, limits.reserve(other) - held[other].segments) for other in Lane if other is not lane)
    return Room.THERE if vacant > promised else victim_for(lane, held, limits)


def victim_for(lane: Lane, held: Mapping[Lane, Holding], limits: SpoolLimits) -> Room | Evict:
    """Whom `lane` may evict: the lowest lane that is beyond its reserve, in the end itself; never a higher one."""
    for other in sorted(Lane, reverse=True):
        spare = held[other].segments - limits.reserve(other)
        if held[other].evictable and (other is lane or (other > lane and spare > 0)):
            return Evict(other)
    return Room.NONE
