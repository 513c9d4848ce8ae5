"""Whose turn it is: which waiting frame the worker looks at next, and which ones it never will.

A result is worth less with every millisecond, and a frame that is looked at late makes the ones behind it late, too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from inference.messages import Filled


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of a wait: `frame` is to be looked at now; `late` never will be."""

    frame: Filled | None = None
    late: Filled | None = None


class NewestFirst:
    """Real speed: at most one frame waits, and a newer one takes its place.

    One that waited for more than half a period gives way to the next, which is nearer than its own result. Only the
    wait for a turn counts, so that a slow camera's frames are looked at all the same.
    """

    def __init__(self) -> None:
        self._waiting: tuple[Filled, int] | None = None

    def __len__(self) -> int:
        return 0 if self._waiting is None else 1

    def next_id(self, otherwise: int) -> int:
        """The id of the frame that waits; `otherwise` when none does."""
        return otherwise if self._waiting is None else self._waiting[0].frame_id

    def put(self, frame: Filled, now_ns: int) -> Filled | None:
        """The frame whose place it takes, if any."""
        before, self._waiting = self._waiting, (frame, now_ns)
        return before[0] if before is not None else None

    def take(self, now_ns: int, period_ns: int) -> Turn:
        """When the worker is free."""
        if self._waiting is None:
            return Turn()
        (frame, since_ns), self._waiting = self._waiting, None
        return Turn(late=frame) if now_ns - since_ns > period_ns // 2 else Turn(frame)


class InOrder:
    """Lockstep: every frame waits its turn, however long."""

    def __init__(self) -> None:
        self._waiting: deque[Filled] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def next_id(self, otherwise: int) -> int:
        return self._waiting[0].frame_id if self._waiting else otherwise

    def put(self, frame: Filled, now_ns: int) -> Filled | None:
        self._waiting.append(frame)
        return None

    def take(self, now_ns: int, period_ns: int) -> Turn:
        return Turn(self._waiting.popleft()) if self._waiting else Turn()
