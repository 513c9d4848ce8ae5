"""Periods without a timer."""

from __future__ import annotations


class Period:
    """Tells the first sample in each period of the boot clock.

    The grid starts at boot time 0, whenever the first sample came: a replay's summaries fall on the same samples.
    """

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._newest = -1

    def begins_at(self, t_ns: int) -> bool:
        """True when no sample of this period, or of a later one, came before."""
        number = t_ns // self._period_ns
        begins = number > self._newest
        self._newest = max(self._newest, number)
        return begins
