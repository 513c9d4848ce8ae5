"""Campaigns that tell the last known state once in each period."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ecu.clock import MILLISECOND_NS
from telemetry.capture.campaigns.streams import Stream
from telemetry.capture.campaigns.telling import Tell
from telemetry.records import LastKnownState


class LastStates:
    """At the end of each period in which any sample came: a vehicle that is silent has nothing new to say."""

    def __init__(self, streams: Sequence[Stream], period_ns: int, campaign: str, revision: int) -> None:
        self.streams = tuple(streams)
        self._period_ns = period_ns
        self._campaign, self._revision = campaign, revision
        self._seen_ns = -1
        self._open: int | None = None

    def tells(self, all_ns: int) -> Iterator[Tell]:
        current = all_ns // self._period_ns
        periods = self._periods(all_ns)
        for period in sorted(periods - {current}):
            yield from self._state((period + 1) * self._period_ns)
        self._open = current if current in periods else None
        self._seen_ns = all_ns
        for stream in self.streams:
            stream.ring.drop(max(0, stream.ring.first_at(all_ns + 1) - 1))

    def flush(self, all_ns: int) -> Iterator[Tell]:
        """A state that isn't due yet will be told by whoever comes next."""
        return self.tells(all_ns)

    def _periods(self, all_ns: int) -> set[int]:
        """Those that samples came in and that haven't been told."""
        periods = set() if self._open is None else {self._open}
        for stream in self.streams:
            t_ns = stream.ring.t_ns
            new = t_ns[stream.ring.first_at(self._seen_ns + 1) : stream.ring.first_at(all_ns + 1)]
            if len(new):
                first, last = int(new[0]) // self._period_ns, int(new[-1]) // self._period_ns
                periods |= {first} if first == last else set(np.unique(new // self._period_ns).tolist())
        return periods

    def _state(self, at_ns: int) -> Iterator[Tell]:
        known: dict[str, tuple[float, int]] = {}
        newest: dict[str, int] = {}
        for stream in self.streams:
            for path, value, t_ns in stream.last_known(at_ns - 1):
                if t_ns >= newest.get(path, t_ns):
                    newest[path] = t_ns
                    known[path] = (value, (at_ns - t_ns) // MILLISECOND_NS)
        if known:
            yield Tell(at_ns, at_ns, event=LastKnownState(self._campaign, self._revision, known))
