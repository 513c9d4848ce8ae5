"""Everything that comes into the agent is a Sample, and all samples have one total order.

The order is (t_ns, channel rank, seq): equal instants are settled by the channel's rank and then by its own count, so
that a replay meets the same world in the same order on any load (law 7).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Sample(Generic[P]):
    """One thing that came in. `t_ns` is boot time at its source; `seq` counts within the channel."""

    channel: str
    t_ns: int
    seq: int
    payload: P


class Order:
    """The total order over a fixed set of channels, the earlier named first among equal instants."""

    def __init__(self, channels: Sequence[str]) -> None:
        if len(set(channels)) != len(channels):
            raise ValueError(f"a channel is named twice in {list(channels)}")
        self._ranks = {name: rank for rank, name in enumerate(channels)}

    def key(self, sample: Sample[Any]) -> tuple[int, int, int]:
        """Raises KeyError for a channel that was never ranked: an unordered source can't be replayed."""
        return sample.t_ns, self._ranks[sample.channel], sample.seq

    def sort(self, samples: Iterable[Sample[P]]) -> list[Sample[P]]:
        return sorted(samples, key=self.key)

    def merge(self, *sources: Iterable[Sample[P]]) -> Iterator[Sample[P]]:
        """One ordered stream from sources that are each in order already."""
        return heapq.merge(*sources, key=self.key)
