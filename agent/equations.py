"""The laws of conservation with their numbers, as an operator reads them. Pure.

Both sides are counted apart; an equation only adds up and compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.status import AgentStatus


@dataclass(frozen=True, slots=True)
class Equation:
    """`whole` is so many, and should be the sum of the `parts`. `of` says whose: a lane, a camera."""

    law: str
    of: str
    whole: tuple[str, int]
    parts: tuple[tuple[str, int | Mapping[str, int]], ...]

    @property
    def holds(self) -> bool:
        return self.whole[1] == sum(_number(part) for _, part in self.parts)

    def __str__(self) -> str:
        name, number = self.whole
        right = " + ".join(f"{_number(part):,} {what}{_reasons(part)}" for what, part in self.parts)
        return f"{number:,} {name} {'=' if self.holds else '≠'} {right}"


def equations(status: AgentStatus) -> Iterator[Equation]:
    """All that this vehicle can be held to now, law by law."""
    yield from _records(status)
    yield from _frames(status)
    yield from _pictures(status)
    yield from _objects(status)
    yield from _examples(status)


def _records(status: AgentStatus) -> Iterator[Equation]:
    law = "Law 1: records are conserved"
    for lane in status.spool.lanes:
        yield Equation(
            law, lane.lane.name, ("offered", lane.offered),
            (("durable", lane.durable), ("pending", lane.pending), ("dropped", lane.dropped),
             ("lost in a crash", lane.lost_in_crash)),
        )  # fmt: skip
        yield Equation(
            law, lane.lane.name, ("durable", lane.durable),
            (("acknowledged", lane.acknowledged), ("spooled", lane.spooled), ("evicted", lane.evicted),
             ("quarantined", lane.quarantined), ("erased", lane.erased)),
        )  # fmt: skip


def _frames(status: AgentStatus) -> Iterator[Equation]:
    if status.perception is not None:
        frames = status.perception.frames
        yield Equation(
            "Law 2: frames are conserved", status.perception.camera, ("captured", frames.captured),
            (("processed", frames.processed), ("dropped by policy", frames.dropped_by_policy),
             ("dropped late", frames.dropped_late), ("in flight", frames.in_flight),
             ("lost to a fault", frames.lost_to_fault)),
        )  # fmt: skip


def _pictures(status: AgentStatus) -> Iterator[Equation]:
    if status.gallery is not None and status.gallery.pictures is not None:
        counts = status.gallery.pictures.counts
        parts = ("taken", counts.taken), ("dropped", counts.dropped), ("waiting", counts.waiting)
        yield Equation("Wanted pictures", "redactor", ("wanted", counts.wanted), parts)


def _objects(status: AgentStatus) -> Iterator[Equation]:
    if status.gallery is None:
        return
    law, it = "Objects are conserved", status.gallery.objects
    parts = ("durable", it.durable), ("pending", it.pending), ("dropped", it.dropped)
    yield Equation(law, "objects", ("offered", it.offered), parts)
    yield Equation(
        law, "objects", ("durable", it.durable),
        (("stored", it.stored), ("kept", it.kept), ("refused", it.refused), ("evicted", it.evicted),
         ("erased", it.erased), ("damaged", it.damaged)),
    )  # fmt: skip


def _examples(status: AgentStatus) -> Iterator[Equation]:
    if status.learning is not None and status.learning.store is not None:
        it = status.learning.store
        parts = ("kept", it.kept), ("dropped", it.dropped)
        yield Equation("Examples are conserved", "learning", ("found and offered", it.found + it.offered), parts)


def _number(part: int | Mapping[str, int]) -> int:
    return part if isinstance(part, int) else sum(part.values())


def _reasons(part: int | Mapping[str, int]) -> str:
    if isinstance(part, int) or not any(part.values()):
        return ""
    return f" ({', '.join(f'{number:,} {reason}' for reason, number in part.items() if number)})"
