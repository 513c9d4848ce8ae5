"""Campaigns that tell what was around an instant."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ecu.clock import MILLISECOND_NS
from telemetry.capture.campaigns.campaign import Campaign, Windows
from telemetry.capture.campaigns.streams import LONG_AGO_NS, Stream
from telemetry.capture.campaigns.telling import Tell
from telemetry.records import Triggered

TELL_WITHIN_MS: Final = 10_000
"""A long window is told piece by piece, so that its ring stays short."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A trigger that was granted."""

    number: int
    t_ns: int
    why: str


class Windowed:
    """Samples from `pre_ms` before each trigger to `post_ms` after it, each told once however windows overlap.

    Triggers are known as soon as the groups of the watch are; they are told when all groups have got so far.
    """

    def __init__(self, campaign: Campaign, windows: Windows, streams: Sequence[Stream]) -> None:
        self.streams = tuple(streams)
        self._campaign = campaign
        self._pre_ns = windows.pre_ms * MILLISECOND_NS
        self._post_ns = windows.post_ms * MILLISECOND_NS
        self._waiting: deque[Fired] = deque()
        self._told_ns = LONG_AGO_NS
        self._from_ns = self._until_ns = 0
        self._next_ns: int | None = None

    @property
    def behind_ns(self) -> int | None:
        """A trigger that waits for groups that haven't got so far."""
        return self._waiting[0].t_ns if self._waiting else None

    def fire(self, fired: Fired) -> None:
        """In order of time."""
        self._waiting.append(fired)

    def tells(self, all_ns: int) -> Iterator[Tell]:
        while True:
            fired = self._waiting[0] if self._waiting else None
            if fired is not None and fired.t_ns <= all_ns and (self._next_ns is None or fired.t_ns <= self._next_ns):
                self._waiting.popleft()
                yield self._triggered(fired)
                self._open(fired.t_ns)
            elif self._next_ns is not None and self._next_ns <= all_ns:
                yield from self._piece(self._next_ns)
                self._go_on()
            else:
                break
        keep_ns = self._from_ns if self._next_ns is not None else all_ns - self._pre_ns
        for stream in self.streams:
            stream.ring.keep_from_ns = keep_ns

    def flush(self, all_ns: int) -> Iterator[Tell]:
        """The campaign ends: an open window ends now."""
        yield from self.tells(all_ns)
        if self._next_ns is not None:
            self._until_ns = self._next_ns = all_ns
            yield from self._piece(all_ns)
            self._next_ns = None

    def _triggered(self, fired: Fired) -> Tell:
        known: dict[str, tuple[int, float]] = {}
        for stream in self.streams:
            for path, value, t_ns in stream.last_known(fired.t_ns):
                if path not in known or t_ns >= known[path][0]:
                    known[path] = (t_ns, value)
        signals = {path: value for path, (_, value) in known.items()}
        name, revision = self._campaign.name, self._campaign.revision
        return Tell(fired.t_ns, fired.t_ns, event=Triggered(name, revision, fired.number, fired.why, signals))

    def _open(self, t_ns: int) -> None:
        self._until_ns = t_ns + self._post_ns
        if self._next_ns is None:
            self._from_ns = max(t_ns - self._pre_ns, self._told_ns + 1)
            self._next_ns = self._piece_end(t_ns)

    def _go_on(self) -> None:
        assert self._next_ns is not None
        self._told_ns = self._next_ns
        self._from_ns = self._told_ns + 1
        self._next_ns = self._piece_end(self._told_ns) if self._told_ns < self._until_ns else None

    def _piece_end(self, begin_ns: int) -> int:
        return min(begin_ns + TELL_WITHIN_MS * MILLISECOND_NS, self._until_ns)

    def _piece(self, end_ns: int) -> Iterator[Tell]:
        parts = []
        for stream in self.streams:
            first, end = stream.ring.first_at(self._from_ns), stream.ring.first_at(end_ns + 1)
            if first < end:
                parts.append(stream.told(first, end))
        if parts:
            yield Tell(end_ns, min(int(part.t_ns[0]) for part in parts), tuple(parts))
