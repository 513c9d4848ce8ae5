"""Campaigns that tell in blocks: everything of a period, or what has changed in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from telemetry.capture.campaigns.streams import Stream
from telemetry.capture.campaigns.telling import Tell


class Blocks:
    """One block for each period that has anything in it. Periods begin at boot time 0, whenever the campaign came."""

    def __init__(self, streams: Sequence[Stream], period_ns: int) -> None:
        self.streams = tuple(streams)
        self._period_ns = period_ns
        self._next_end_ns = 0

    def tells(self, all_ns: int) -> Iterator[Tell]:
        """`all_ns`: everything up to it has been offered."""
        if all_ns < self._next_end_ns:
            return
        while (end_ns := self._end_of_oldest()) is not None and end_ns <= all_ns:
            yield self._block(end_ns, end_ns)
        self._next_end_ns = (all_ns // self._period_ns + 1) * self._period_ns

    def flush(self, all_ns: int) -> Iterator[Tell]:
        """The campaign ends: the period that isn't over too."""
        yield from self.tells(all_ns)
        if any(len(stream.ring) for stream in self.streams):
            yield self._block(all_ns, all_ns + 1)

    def _end_of_oldest(self) -> int | None:
        firsts = [int(stream.ring.t_ns[0]) for stream in self.streams if len(stream.ring)]
        return (min(firsts) // self._period_ns + 1) * self._period_ns if firsts else None

    def _block(self, due_ns: int, end_ns: int) -> Tell:
        parts = []
        for stream in self.streams:
            rows = stream.ring.first_at(end_ns)
            if rows:
                parts.append(stream.told(0, rows))
                stream.ring.drop(rows)
        return Tell(due_ns, min(int(part.t_ns[0]) for part in parts), tuple(parts))
