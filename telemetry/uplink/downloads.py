"""What comes in over the network that records and objects leave by: against the same budgets, in the same day's book.

It is asked by the thread that waits for the bytes; any may.
"""

from __future__ import annotations

from typing import Final

from ecu.network import NetworkSource
from telemetry.links.link import LinkError, Unreachable
from telemetry.records import Lane
from telemetry.uplink.allowance import Held, lane_held, releases_held
from telemetry.uplink.daybook import DayBook
from telemetry.uplink.networks import NetworkConfig

CONNECT_OVERHEAD_BYTES: Final = 8 * 1024
"""Certificates both ways, the greeting, the subscription."""
ATTEMPT_OVERHEAD_BYTES: Final = 500
"""A name looked up, and a few packets that nobody answers."""


def attempt_bytes(failure: LinkError | None) -> int:
    """What a connection that was tried costs: little if nobody answered."""
    return ATTEMPT_OVERHEAD_BYTES if type(failure) is Unreachable else CONNECT_OVERHEAD_BYTES


class Downloads:
    """`begin` before each question, then `carried` as the kernel counts its bytes, whatever becomes of them."""

    def __init__(self, config: NetworkConfig, source: NetworkSource, days: DayBook) -> None:
        self._config = config
        self._source = source
        self._days = days

    def held(self) -> Held | None:
        """Why nothing that takes room may be fetched."""
        network = self._source.now().network
        return releases_held(network, self._config.rule(network), self._days)

    def held_small(self) -> Held | None:
        """Why not even a small question may be asked: P0's reserve is gone, too."""
        network = self._source.now().network
        return lane_held(Lane.P0, network, self._config.rule(network), self._days)

    def begin(self, size: int) -> None:
        """So much is about to come: flash knows of it when this returns. It blocks."""
        network = self._source.now().network
        ahead, budget = size + CONNECT_OVERHEAD_BYTES, self._config.rule(network).bytes_per_day
        if budget and not self._days.is_claimed(network.value, ahead):
            self._days.claim(network.value, budget, ahead)

    def carried(self, size: int) -> None:
        """So much more went over a connection, both ways."""
        self._days.add(self._source.now().network.value, size)

    def failed(self, failure: LinkError) -> None:
        """A connection came to nothing."""
        self.carried(attempt_bytes(failure))
