"""The object store: a picture that was put is on flash when that returns, and stays until the receiver has stored it.

Its counts are law: telemetry/objects/counts.py. It takes redacted pictures and nothing else (law 5).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Final, TypeGuard, assert_never

from ecu.disk import Disk, DiskError, DiskFault, DiskFull, WatchedDisk, lay_beside, move_all_in, sync_beside
from telemetry.objects.books import Books
from telemetry.objects.config import ObjectsConfig
from telemetry.objects.counts import Damaged, Dropped, ObjectCounts, Totals, counted, reconcile
from telemetry.objects.departures import Departures, finished
from telemetry.objects.errors import BadObject, NotKept, ObjectGone
from telemetry.objects.format import (
    OVERHEAD_BYTES,
    REALM,
    SALT_BYTES,
    ObjectHeader,
    ObjectRef,
    file_name,
    pack_object,
    unpack_header,
    unpack_object,
)
from telemetry.objects.recovery import Found, survey
from telemetry.privacy.pictures import RedactedPicture
from telemetry.records import Lane, Purpose
from telemetry.spool.counts import Counters
from telemetry.spool.vault import KeyLost, Sealer, Vault

LANE: Final = Lane.P3


class ObjectStore:
    """Made by `open`. What touches flash blocks and goes one at a time, from any threads; `oldest`, `counts` and
    `turn_away` never wait for flash."""

    def __init__(
        self,
        disk: WatchedDisk,
        entropy: Callable[[int], bytes],
        limits: ObjectsConfig,
        counters: Counters,
        vault: Vault,
        books: Books,
        departures: Departures,
        found: Found,
    ) -> None:
        self._disk = disk
        self._entropy = entropy
        self._limits = limits
        self._counters = counters
        self._vault = vault
        self._books = books
        self._departures = departures
        self._kept = departures.kept
        self._laid: dict[int, ObjectRef] = {}  # durable, their names not yet
        self._aside = set[int]()  # kept, and flash doesn't give them back now
        self._unknown = found.unreadable  # as these, from the start on
        self._ledger_lost = counters.was_lost
        self._last_refusal: str | None = None
        self._turn = threading.Lock()  # held over flash
        self._look = departures.look  # never held over flash

    @classmethod
    def open(
        cls,
        disk: Disk,
        keys: Sealer,
        entropy: Callable[[int], bytes],
        limits: ObjectsConfig,
        counters: Counters,
    ) -> ObjectStore:
        """`disk` is the store's own folder; `entropy` gives that many unpredictable bytes, never the same again;
        `counters` have LEDGER_NAMES.

        Finishes what another life began. Damage is counted and refuses nothing; ObjectsTooNew and DiskError do.
        """
        disk.make_folder("")
        watched = WatchedDisk(disk)
        vault, books = Vault(watched, keys, entropy, REALM), Books(watched)
        vault.open()
        page = books.read()
        for purpose in page.erasing:
            vault.shred(purpose)
        found = survey(watched, page.leaving, set(page.erasing))
        for name in found.useless:
            watched.remove(name)
        # Names and removals that a killed process left in memory only: from here on the books count on them.
        watched.sync_folder("")
        page = finished(page)
        ledger = counted(dict.fromkeys(counters.values(), 0) if books.lost else counters.values())
        opening, totals = reconcile(ledger, page.totals, _on_flash(found))
        counters.set(**opening.as_values())
        departures = Departures(watched, books, replace(page, totals=totals), vault, counters, found)
        store = cls(watched, entropy, limits, counters, vault, books, departures, found)
        store._settle(found)
        return store

    # --- in ---

    def put(self, picture: RedactedPicture, purpose: Purpose) -> ObjectRef:
        """The object, durable, whole and encrypted; the one that is there already for the same bytes and purpose.

        Raises NotKept: the picture was dropped and counted.
        """
        [outcome] = self.put_many([(picture, purpose)])
        if isinstance(outcome, NotKept):
            raise outcome
        return outcome

    def put_many(self, pictures: Sequence[tuple[RedactedPicture, Purpose]]) -> list[ObjectRef | NotKept]:
        """As `put` of each, its outcome in its place; their names are synced together, which takes half the time."""
        for picture, _ in pictures:
            if not isinstance(picture, RedactedPicture):
                raise TypeError(f"only a redacted picture may be written, not a {type(picture).__name__}")
        with self._turn:
            self._count(offered=len(pictures))
            laid = [self._lay_down(picture.jpeg, purpose) for picture, purpose in pictures]
            return self._moved_in(self._made_durable(laid))

    def turn_away(self) -> NotKept:
        """A picture that nobody has time for: dropped, counted, and said so. Never waits."""
        self._count(offered=1)
        return self._dropped(Dropped.QUEUE_FULL, "Pictures come faster than flash takes them; this one isn't kept.")

    # --- out ---

    def oldest(self, withheld: Set[Purpose] = frozenset()) -> ObjectRef | None:
        """The next that has to go to the receiver, for none of the withheld purposes."""
        with self._look:
            there = (ref for serial, ref in self._kept.items() if serial not in self._aside)
            return next((ref for ref in there if ref.purpose not in withheld), None)

    def holds(self, ref: ObjectRef) -> bool:
        """Whether it hasn't left. Never waits for flash."""
        with self._look:
            return ref.serial in self._kept

    def kept(self) -> tuple[ObjectRef, ...]:
        """All there is, the oldest first."""
        with self._look:
            return tuple(self._kept.values())

    def read(self, ref: ObjectRef, offset: int, length: int) -> bytes:
        """Up to `length` plain bytes from `offset`, checked as part of the whole object.

        Raises ObjectGone when it can't be had any more, which is then counted, or not before the next start; DiskError
        when the computer is short of something: try later.
        """
        with self._turn:
            if ref.serial not in self._kept:
                raise ObjectGone(f"Object {ref.sha256} isn't kept any more.")
            try:
                return self._plain(ref)[offset : offset + length]
            except DiskFault as error:
                self._set_aside(ref, str(error))
                raise ObjectGone(
                    f"Object {ref.sha256} can't be read now; the next start tries again: {error}"
                ) from error
            except (BadObject, KeyLost, FileNotFoundError) as error:
                why = _damage(error)
                self._departures.write_off({ref.serial: why})
                raise ObjectGone(f"Object {ref.sha256} is lost ({why}): {error}") from error

    def stored(self, ref: ObjectRef) -> bool:
        """The receiver has it: forgets it. False when it had left already. Raises DiskError: say it again."""
        return self._depart(ref, lambda totals: replace(totals, stored=totals.stored + 1))

    def refused(self, ref: ObjectRef, reason: str) -> bool:
        """The receiver will never take it: forgets it, as `stored` does."""
        self._last_refusal = reason
        return self._depart(ref, lambda totals: replace(totals, refused=totals.refused + 1))

    def erase(self, purpose: Purpose) -> int:
        """Makes everything on flash for this purpose unreadable, for ever, and removes it; the objects that were.

        Raises DiskError: they are out of reach, and erased before the next picture is kept. A start that comes before
        that finishes it if flash took the news of it: say it again after one.
        """
        with self._turn:
            return self._departures.erase(purpose)

    # --- the rest ---

    def counts(self) -> ObjectCounts:
        with self._look:
            counters, page = counted(self._counters.values()), self._departures.page
            return ObjectCounts(
                offered=counters.offered,
                durable=counters.durable,
                pending=counters.pending,
                dropped=counters.dropped,
                stored=page.totals.stored,
                kept=len(self._kept) + len(self._unknown),
                unreadable=len(self._aside & self._kept.keys()) + len(self._unknown),
                refused=page.totals.refused,
                evicted=page.totals.evicted,
                erased=page.totals.erased + sum(page.erasing.values()),
                damaged=page.totals.damaged,
                kept_bytes=sum(ref.file_bytes for ref in self._kept.values()),
                ledger_lost=self._ledger_lost,
                books_lost=self._books.lost,
                last_refusal=self._last_refusal,
                fault=self._departures.fault,
            )

    def close(self) -> None:
        """The planned end: what was dropped is written down. Raises DiskError; nothing durable is lost then."""
        with self._turn:
            self._departures.write_down()

    # --- within: one at a time ---

    def _lay_down(self, plain: bytes, purpose: Purpose) -> ObjectRef | NotKept:
        """Written under another name."""
        sha256 = hashlib.sha256(plain).hexdigest()
        there = (ref for ref in (*self._kept.values(), *self._laid.values()) if ref.sha256 == sha256)
        if (known := next((ref for ref in there if ref.purpose is purpose), None)) is not None:
            return known
        if (refusal := self._refusal(len(plain))) is not None:
            return refusal
        try:
            # Nothing is added to a pile that can't be taken from.
            self._departures.catch_up(self._limits.max_bytes)
            self._vault.make_sure(LANE, purpose)
            ref = ObjectRef(self._departures.next_serial, sha256, len(plain), purpose)
            self._departures.next_serial += 1
            self._write_beside(ref, plain)
        except DiskError as error:
            return self._flash_failed(len(plain), error)
        self._laid[ref.serial] = ref
        return ref

    def _write_beside(self, ref: ObjectRef, plain: bytes) -> None:
        header = ObjectHeader(ref, self._entropy(SALT_BYTES))
        cipher = self._vault.cipher(LANE, ref.purpose, bytes.fromhex(ref.sha256), header.salt)
        try:
            lay_beside(self._disk, file_name(ref.serial), pack_object(header, cipher, plain))
        except DiskError:
            self._departures.never_came(ref.serial)
            raise

    def _made_durable(self, outcomes: list[ObjectRef | NotKept]) -> list[ObjectRef | NotKept]:
        """Those that were laid down, under their other names; what flash refuses isn't kept."""
        for ref in tuple(self._laid.values()):
            try:
                sync_beside(self._disk, file_name(ref.serial))
            except DiskError as error:
                del self._laid[ref.serial]
                self._departures.never_came(ref.serial)
                outcomes = [self._flash_failed(o.bytes, error) if o is ref else o for o in outcomes]
        return outcomes

    def _moved_in(self, outcomes: list[ObjectRef | NotKept]) -> list[ObjectRef | NotKept]:
        """All that were laid down under their own names, or none."""
        laid, self._laid = self._laid, {}
        if laid:
            try:
                move_all_in(self._disk, [file_name(serial) for serial in laid])
            except DiskError as error:
                for serial in laid:
                    self._departures.never_came(serial)
                return [self._flash_failed(o.bytes, error) if _is_one_of(o, laid) else o for o in outcomes]
            with self._look:
                self._kept.update(laid)
                self._counters.add(durable=len(laid))
            self._departures.fault = None
        self._count(dropped_duplicate=sum(isinstance(o, ObjectRef) for o in outcomes) - len(laid))
        # Only now: a picture that there was no room for must not have cost another one.
        self._departures.evict_if_possible(self._limits.max_bytes)
        return outcomes

    def _flash_failed(self, size: int, error: DiskError) -> NotKept:
        self._departures.fault = str(error)
        why = Dropped.DISK_FULL if isinstance(error, DiskFull) else Dropped.DISK_FAULT
        return self._dropped(why, f"A picture of {size} bytes isn't kept: {error}")

    def _refusal(self, size: int) -> NotKept | None:
        most = min(self._limits.object_bytes, self._limits.max_bytes - OVERHEAD_BYTES)
        if size == 0:
            return self._dropped(Dropped.EMPTY, "A picture without bytes isn't kept.")
        if size > most:
            words = f"A picture of {size} bytes isn't kept: [objects] allows {most}. Take it smaller, or raise that."
            return self._dropped(Dropped.TOO_LARGE, words)
        return None

    def _plain(self, ref: ObjectRef) -> bytes:
        data = self._disk.read(file_name(ref.serial))
        header = unpack_header(data)
        if header.ref != ref:
            raise BadObject("the header isn't the one that it had")
        cipher = self._vault.cipher(LANE, ref.purpose, bytes.fromhex(ref.sha256), header.salt)
        return unpack_object(data, cipher)

    def _set_aside(self, ref: ObjectRef, fault: str) -> None:
        with self._look:
            self._aside.add(ref.serial)
            self._departures.fault = fault

    def _depart(self, ref: ObjectRef, counted_as: Callable[[Totals], Totals]) -> bool:
        with self._turn:
            if ref.serial not in self._kept:
                return False
            self._departures.leave([ref.serial], counted_as(self._departures.page.totals))
            return True

    def _settle(self, found: Found) -> None:
        """A start's last acts: what can't be read has left, and so has what is too much now."""
        with self._turn:
            damaged = {**dict.fromkeys(found.corrupt, Damaged.CORRUPT), **self._keyless()}
            # In both twins: an older page of an erasure would take what is kept for its purpose from here on.
            self._departures.write_off(damaged, both=True)
            self._departures.evict(self._limits.max_bytes)

    def _keyless(self) -> dict[int, Damaged]:
        """Looked for before a new key of the same purpose can be made: that one wouldn't open them either."""
        lost = set[Purpose]()
        for purpose in {ref.purpose for ref in self._kept.values()}:
            try:
                self._vault.cipher(LANE, purpose, b"", b"")
            except KeyLost as error:
                self._departures.fault = str(error)
                lost.add(purpose)
        return {serial: Damaged.KEY_LOST for serial, ref in self._kept.items() if ref.purpose in lost}

    def _dropped(self, why: Dropped, words: str) -> NotKept:
        self._count(**{f"dropped_{why.value}": 1})
        return NotKept(why, words)

    def _count(self, **deltas: int) -> None:
        with self._look:
            self._counters.add(**deltas)


def _is_one_of(outcome: ObjectRef | NotKept, laid: Mapping[int, ObjectRef]) -> TypeGuard[ObjectRef]:
    return isinstance(outcome, ObjectRef) and outcome.serial in laid


def _on_flash(found: Found) -> int:
    """Objects that had not left when the last life ended, in whatever state they are."""
    return len(found.kept) + len(found.corrupt) + len(found.unreadable)


def _damage(error: BadObject | KeyLost | FileNotFoundError) -> Damaged:
    match error:
        case KeyLost():
            return Damaged.KEY_LOST
        case FileNotFoundError():
            return Damaged.MISSING
        case BadObject():
            return Damaged.CORRUPT
        case _:
            assert_never(error)
