"""Which lane's block goes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from telemetry.records import Lane
from telemetry.wire import MAX_BLOCK_BYTES

SHARES: Final[Mapping[Lane, int]] = MappingProxyType({Lane.P1: 4, Lane.P2: 2, Lane.P3: 1})
"""Of the bytes that P0 leaves, while all three have something to send."""


class Schedule:
    """P0 always first; the others by deficit round robin over bytes (Shreedhar and Varghese, SIGCOMM 1995).

    A lane's turn brings it its share of credit, a multiple of the longest block; it goes on while its next block is
    covered. A lane with nothing to send keeps no credit, so that nobody saves up for a burst.
    """

    def __init__(self, shares: Mapping[Lane, int] = SHARES) -> None:
        self._shares = shares
        self._ring = deque(shares)
        self._credit = dict.fromkeys(shares, 0)
        self._turn_began = False

    def pick(self, heads: Mapping[Lane, int]) -> Lane | None:
        """The lane whose head goes now, given each waiting lane's head in bytes; None when none waits."""
        if Lane.P0 in heads:
            return Lane.P0
        if not heads:
            return None
        for lane in self._credit.keys() - heads.keys():
            self._credit[lane] = 0
        while not self._covers(heads):
            self._ring.rotate(-1)
            self._turn_began = False
        self._credit[self._ring[0]] -= heads[self._ring[0]]
        return self._ring[0]

    def _covers(self, heads: Mapping[Lane, int]) -> bool:
        lane = self._ring[0]
        if lane not in heads:
            return False
        if not self._turn_began:
            self._credit[lane] += self._shares[lane] * MAX_BLOCK_BYTES
            self._turn_began = True
        return heads[lane] <= self._credit[lane]
