"""Which objects have to go when they take more than they may. Pure; the acts are in departures.py."""

from __future__ import annotations

from collections.abc import Iterable

from telemetry.objects.format import ObjectRef


def to_evict(kept: Iterable[ObjectRef], max_bytes: int) -> tuple[ObjectRef, ...]:
    """The oldest, and no more than it takes for the rest to fit. `kept` is in order of age, the oldest first."""
    objects = tuple(kept)
    beyond = sum(ref.file_bytes for ref in objects) - max_bytes
    doomed = 0
    while beyond > 0:
        beyond -= objects[doomed].file_bytes
        doomed += 1
    return objects[:doomed]
