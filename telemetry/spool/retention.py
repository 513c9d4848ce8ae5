"""Who may have the next segment, and who loses one for it. Pure; the acts are in log.py.

A lane's reserve is its own, used or not. What is beyond the reserves goes to whoever asks first; once it is all taken,
the lowest lane loses its oldest segment first. No lane ever costs a higher one anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from telemetry.records import Lane
from telemetry.spool.format import trimmed_pages
from telemetry.spool.limits import SpoolLimits
from telemetry.spool.shelf import Segment


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
    """What a lane has: flash for its segments, and whether any of them isn't busy."""

    flash_bytes: int
    evictable: bool


def room_for(lane: Lane, held: Mapping[Lane, Holding], unusable_bytes: int, limits: SpoolLimits) -> Room | Evict:
    """The next step towards a segment for `lane`."""
    vacant = limits.max_bytes - unusable_bytes - sum(holding.flash_bytes for holding in held.values())
    promised = sum(max(0, limits.reserve_bytes(other) - held[other].flash_bytes) for other in Lane if other is not lane)
    return Room.THERE if vacant - promised >= limits.segment_bytes else victim_for(lane, held, limits)


def victim_for(lane: Lane, held: Mapping[Lane, Holding], limits: SpoolLimits) -> Room | Evict:
    """Whom `lane` may evict: the lowest lane that is beyond its reserve, in the end itself; never a higher one."""
    for other in sorted(Lane, reverse=True):
        beyond = held[other].flash_bytes > limits.reserve_bytes(other)
        if held[other].evictable and (other is lane or (other > lane and beyond)):
            return Evict(other)
    return Room.NONE


def to_trim(segments: Sequence[Segment]) -> Segment | None:
    """The finished segment that wastes most: what it never used can be given back before anything is evicted.

    Each start of the spool leaves segments begun and not filled. A small gain isn't worth it: only a file of full size
    can be used again without filling it with zeros first.
    """
    wasted = {s.serial: s.pages - trimmed_pages(s.used_pages) for s in segments if not s.busy and not s.faulty}
    wasteful = [s for s in segments if wasted.get(s.serial, 0) * 4 >= s.pages]
    return max(wasteful, key=lambda segment: wasted[segment.serial], default=None)
