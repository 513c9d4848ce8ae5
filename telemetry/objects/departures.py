"""How objects leave: stored, refused, evicted, erased or damaged. Written down first, then their files are removed.

A page of the books names what has left until its file is gone for good, so that no object leaves twice or comes back.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from ecu.disk import DiskError, WatchedDisk, beside
from telemetry.objects.books import Books, Page
from telemetry.objects.counts import Damaged, Totals, counted
from telemetry.objects.format import file_name
from telemetry.objects.recovery import Found
from telemetry.objects.retention import to_evict
from telemetry.records import Purpose
from telemetry.spool.counts import Counters, with_added
from telemetry.spool.vault import Vault


class Departures:
    """Makes objects leave. One act at a time; `look` guards what others read meanwhile, and is never held over flash.

    `kept` is by rising serial. `fault` is what flash last did wrong, until something goes right.
    """

    def __init__(
        self, disk: WatchedDisk, books: Books, page: Page, vault: Vault, counters: Counters, found: Found
    ) -> None:
        self.look = threading.Lock()
        self.page = page
        self.kept = {ref.serial: ref for ref in found.kept}
        self.next_serial = max(page.next_serial, found.next_serial)
        self.fault: str | None = None
        self._disk = disk
        self._books = books
        self._vault = vault
        self._counters = counters
        self._doomed = set[int]()

    # --- what leaves ---

    def leave(self, serials: Iterable[int], totals: Totals, both: bool = False) -> None:
        """They have left when this returns, as `totals` count it, whatever comes. Raises DiskError: none has."""
        gone = set(serials)
        self._turn_page(replace(self.page, totals=totals, leaving=self.page.leaving | gone), gone, both)
        with self._noted():
            self._sweep()

    def write_off(self, damaged: Mapping[int, Damaged], both: bool = False) -> None:
        """These can't be had any more. As `leave`."""
        tally = self.page.totals.damaged
        for why in damaged.values():
            tally = with_added(tally, why, 1)
        self.leave(damaged, replace(self.page.totals, damaged=tally), both)

    def evict(self, max_bytes: int) -> None:
        """The oldest, until the rest fits. As `leave`."""
        doomed = to_evict(self.kept.values(), max_bytes)
        if doomed:
            totals = replace(self.page.totals, evicted=self.page.totals.evicted + len(doomed))
            self.leave([ref.serial for ref in doomed], totals)

    def evict_if_possible(self, max_bytes: int) -> None:
        """Whoever comes next does it otherwise."""
        with self._noted():
            self.evict(max_bytes)

    def never_came(self, serial: int) -> None:
        """Its file may have its name all the same: it has left before it came, and no start may find it."""
        self.page = replace(self.page, leaving=self.page.leaving | {serial})
        with contextlib.suppress(DiskError):
            self._sweep()

    def erase(self, purpose: Purpose) -> int:
        """Everything of a purpose; the objects that were. Raises DiskError: they are out of reach, and a later act or
        start finishes it."""
        doomed = {serial for serial, ref in self.kept.items() if ref.purpose is purpose}
        erasing = {**self.page.erasing, purpose: self.page.erasing.get(purpose, 0) + len(doomed)}
        # Begun whatever flash says: it may have the news although it failed, and no new object may meet its end.
        self._doomed |= doomed
        self._enter(replace(self.page, erasing=erasing), doomed)
        self._finish_erasing()
        return len(doomed)

    # --- what was put off ---

    def catch_up(self, max_bytes: int) -> None:
        """Does what flash refused before. Raises DiskError when it still does."""
        self._finish_erasing()
        if self.page.leaving:
            self._sweep()
        self.evict(max_bytes)

    def write_down(self) -> None:
        """All that is known now, durable. Raises DiskError."""
        self._turn_page(self.page)

    # --- within ---

    def _sweep(self) -> None:
        """Removes the files of what has left; what flash doesn't let go stays named in the books."""
        for serial in self.page.leaving:
            for name in (file_name(serial), beside(file_name(serial))):
                with contextlib.suppress(FileNotFoundError):
                    self._disk.remove(name)
        self._disk.sync_folder("")
        if not self._disk.names_doubtful:
            self.page = replace(self.page, leaving=frozenset())

    def _finish_erasing(self) -> None:
        if not self.page.erasing:
            return
        # Both twins, before the key goes: a flipped bit must not make an erasure look like damage.
        self._turn_page(self.page, both=True)
        for purpose in self.page.erasing:
            self._vault.shred(purpose)
        for serial in self._doomed:
            with contextlib.suppress(FileNotFoundError):
                self._disk.remove(file_name(serial))
        self._disk.sync_folder("")
        # Both again: an older page would take what is kept for this purpose from here on.
        self._turn_page(finished(self.page, self._doomed if self._disk.names_doubtful else ()), both=True)
        self._doomed.clear()

    def _turn_page(self, page: Page, gone: Iterable[int] = (), both: bool = False) -> None:
        """What the page says is true from here on. Raises DiskError: then what the last one said still is."""
        dropped = counted(self._counters.values()).dropped
        page = replace(page, next_serial=self.next_serial, totals=replace(page.totals, dropped=dropped))
        self._books.write(page, both)
        self._enter(page, gone)

    def _enter(self, page: Page, gone: Iterable[int]) -> None:
        with self.look:
            self.page = page
            for serial in gone:
                self.kept.pop(serial, None)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """What goes wrong can wait, and is done by whoever comes next."""
        try:
            yield
        except DiskError as error:
            self.fault = str(error)


def finished(page: Page, leaving: Iterable[int] = ()) -> Page:
    """Its erasures are done."""
    totals = replace(page.totals, erased=page.totals.erased + sum(page.erasing.values()))
    return replace(page, totals=totals, leaving=page.leaving.union(leaving), erasing={})
