"""A purge of a running agent: the same intent and audit as agent/purge.py, around stores that are in use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set

import structlog

from agent.purge import Held, Purged, PurgeLog, PurgeUnfinished, Why
from ecu.disk import DiskError
from telemetry.records import Purpose

Erases = Callable[[Purpose], Awaitable[object]]
"""Makes what it keeps for a purpose unreadable, or forgets it. Raises DiskError."""

log = structlog.get_logger()


class Purger:
    """`erasers` are everybody who keeps something, whoever hands it on before whoever gets it; `held` says how much has
    been erased so far; `withhold` sees to it that nothing for some purposes is sent, from before the purge is durable
    until all is erased. One purge at a time; what is captured while it runs may stay."""

    def __init__(
        self,
        book: PurgeLog,
        held: Callable[[], Held],
        erasers: Sequence[Erases],
        withhold: Callable[[Set[Purpose]], None],
    ) -> None:
        self._withhold = withhold
        self._withheld: frozenset[Purpose] = frozenset()
        self._book = book
        self._held = held
        self._erasers = erasers
        self._turn = asyncio.Lock()

    async def purge(self, purposes: Iterable[Purpose]) -> Purged:
        """Finished to the end, whoever stops waiting for it. Raises PurgeUnfinished."""
        return await asyncio.shield(asyncio.ensure_future(self._purge(frozenset(purposes))))

    async def _purge(self, purposes: frozenset[Purpose]) -> Purged:
        async with self._turn:
            # What an unfinished purge wanted stays withheld: its intent is durable, perhaps.
            self._withheld |= purposes
            self._withhold(self._withheld)
            try:
                intent = await asyncio.to_thread(self._book.begin, purposes, Why.ASKED, self._held())
                for purpose in sorted(intent.wanted):
                    for erase in self._erasers:
                        await erase(purpose)
                purged = await asyncio.to_thread(self._book.end, intent, self._held())
            except DiskError as error:
                raise PurgeUnfinished(
                    f"Not everything could be erased: {error} What is left goes at the next start; or purge again."
                ) from error
            self._withheld -= intent.wanted
            self._withhold(self._withheld)
            log.warning("purged", purposes=purged.purposes, records=purged.records, pictures=purged.pictures)
            return purged
