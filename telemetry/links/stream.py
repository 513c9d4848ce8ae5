"""What came in on one connection, for an asynchronous reader: bounded, and over when the connection is."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from telemetry.links.link import Unreachable

T = TypeVar("T")


class Stream(Generic[T]):
    """Keeps the newest `limit` items and counts the older ones it dropped.

    Iterating yields what is there, then raises Unreachable with the reason the connection ended for.
    """

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._items: deque[T] = deque(maxlen=limit)
        self._over: str | None = None
        self._news = asyncio.Event()

    def put(self, item: T) -> None:
        self.dropped += len(self._items) == self._items.maxlen
        self._items.append(item)
        self._news.set()

    def end(self, reason: str) -> None:
        """Wakes every reader. The first reason stays."""
        self._over = self._over or reason
        self._news.set()

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._over is not None:
                raise Unreachable(self._over)
            self._news.clear()
            await self._news.wait()
        return self._items.popleft()


def ended(reason: str) -> Stream[T]:
    """A stream of no connection."""
    stream: Stream[T] = Stream(1)
    stream.end(reason)
    return stream
