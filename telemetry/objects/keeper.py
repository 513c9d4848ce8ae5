"""The object store's shell in an event loop: one thread for flash, and word of new objects."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from telemetry.objects.counts import ObjectCounts
from telemetry.objects.errors import NotKept
from telemetry.objects.format import ObjectRef
from telemetry.objects.store import ObjectStore
from telemetry.privacy.pictures import RedactedPicture
from telemetry.records import Purpose

PUTS_AT_ONCE: Final = 4
"""Pictures in memory that wait for flash; more are dropped and counted."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class _Asked:
    """A picture that waits for flash, and then what became of it."""

    picture: RedactedPicture
    purpose: Purpose
    outcome: ObjectRef | NotKept | None = None


class ObjectKeeper:
    """Keeps an object store for one event loop. What has begun on flash is finished, whoever stops waiting for it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._flash = ThreadPoolExecutor(1, thread_name_prefix="objects")
        self._withheld: Set[Purpose] = frozenset()
        self._waiting = 0
        self._asked: deque[_Asked] = deque()
        self._came = asyncio.Event()
        self._closed = False

    # --- in ---

    async def put(self, picture: RedactedPicture, purpose: Purpose) -> ObjectRef:
        """Durable when it returns. Raises NotKept: dropped and counted. Raises RuntimeError once closed."""
        if self._closed:
            raise RuntimeError("the object store is closed")
        if self._waiting >= PUTS_AT_ONCE:
            raise self._store.turn_away()
        self._waiting += 1
        return await asyncio.shield(asyncio.ensure_future(self._put(picture, purpose)))

    async def _put(self, picture: RedactedPicture, purpose: Purpose) -> ObjectRef:
        asked = _Asked(picture, purpose)
        self._asked.append(asked)
        try:
            await self._on_flash(self._put_all)
        finally:
            self._waiting -= 1
        if isinstance(asked.outcome, NotKept):
            raise asked.outcome
        assert asked.outcome is not None, "whoever put it wrote down what became of it"
        self._wake_who_waits()
        return asked.outcome

    def _put_all(self) -> None:
        """Whatever waits when flash is free goes together; nothing, when another turn has taken it along."""
        together = [self._asked.popleft() for _ in range(len(self._asked))]
        outcomes = self._store.put_many([(asked.picture, asked.purpose) for asked in together])
        for asked, outcome in zip(together, outcomes, strict=True):
            asked.outcome = outcome

    # --- out: what the uplink needs ---

    def oldest(self) -> ObjectRef | None:
        return self._store.oldest(self._withheld)

    async def wait(self) -> None:
        """Until the next object came, or others may go."""
        await self._came.wait()

    def _wake_who_waits(self) -> None:
        self._came.set()
        self._came = asyncio.Event()

    async def read(self, ref: ObjectRef, offset: int, length: int) -> bytes:
        """Raises ObjectGone, or DiskError: try later."""
        return await self._on_flash(self._store.read, ref, offset, length)

    def may_go(self, ref: ObjectRef) -> bool:
        return ref.purpose not in self._withheld and self._store.holds(ref)

    async def stored(self, ref: ObjectRef) -> bool:
        return await self._on_flash(self._store.stored, ref)

    async def refused(self, ref: ObjectRef, reason: str) -> bool:
        return await self._on_flash(self._store.refused, ref, reason)

    # --- the rest ---

    def counts(self) -> ObjectCounts:
        return self._store.counts()

    def withhold(self, purposes: Set[Purpose]) -> None:
        """From now on nothing for these is handed to a link, and everything for others may be."""
        self._withheld = purposes
        self._wake_who_waits()

    async def erase(self, purpose: Purpose) -> int:
        """How many objects of a purpose are unreadable for ever now. Raises DiskError; a later act finishes it."""
        return await self._on_flash(self._store.erase, purpose)

    async def close(self) -> None:
        """Finishes what was begun, and writes down what was dropped. Raises DiskError. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._on_flash(self._store.close)
        finally:
            self._flash.shutdown(wait=False)

    async def _on_flash(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        turn = asyncio.get_running_loop().run_in_executor(self._flash, lambda: act(*args, **kwargs))
        return await asyncio.shield(turn)
