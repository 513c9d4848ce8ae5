"""Purging: what a vehicle keeps for a purpose is made unreadable, for ever, whatever instant the power goes.

The intent becomes durable first, in both twins of a record. Then every store erases what it has: the key, in both
twins of its vault, and the files or the index behind it. A line in a chained audit says how much went, with the digests
of the key records before and after; then the intent is taken back. A start that finds one finishes it before anything
else.

Consent that was taken back is a purge, too: `unwanted` says of what.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from agent.config import AgentConfig
from agent.folders import (
    BOOK_FOLDER,
    COUNTERS_NAME,
    EXAMPLES_FOLDER,
    OBJECT_COUNTERS_NAME,
    OBJECTS_FOLDER,
    PRIVACY_FOLDER,
    SPOOL_FOLDER,
)
from agent.pairing import KEYS_FOLDER
from ecu.clock import Clock, boot_id
from ecu.disk import Disk, FolderDisk, RealDisk
from ecu.errors import OutriderError, UsageFault
from ecu.keys import FileKeyStore
from ecu.ledger import Ledger
from ecu.toml import nearest
from ecu.twin import TwinLost, TwinRecord
from ota.audit import Audit
from telemetry.federated.book import LearningBook
from telemetry.federated.examples import REALM as EXAMPLES
from telemetry.federated.examples import ExampleStore
from telemetry.objects import LEDGER_NAMES as OBJECT_LEDGER_NAMES
from telemetry.objects import ObjectStore
from telemetry.objects.config import ObjectsConfig
from telemetry.objects.format import REALM as OBJECTS
from telemetry.records import Purpose
from telemetry.spool import LEDGER_NAMES, Spool
from telemetry.spool.counts import Counters, Dropped, SpoolCounts
from telemetry.spool.limits import SpoolLimits
from telemetry.spool.vault import SEGMENTS, Realm, Sealer, Vault, digest_of_keys

ALL: Final = "all"

_VAULTS: Final[Mapping[str, Realm]] = {SPOOL_FOLDER: SEGMENTS, OBJECTS_FOLDER: OBJECTS, EXAMPLES_FOLDER: EXAMPLES}
_INTENT: Final = "purge"
_NAME_BYTES: Final = 8


class Why(StrEnum):
    """Who wanted it."""

    ASKED = "asked"
    NO_CONSENT = "no_consent"  # the owner took it back


@dataclass(frozen=True, slots=True)
class Held:
    """How much was erased or is there to be, since the state began: the difference of two is what a purge took."""

    records: int = 0
    pictures: int = 0
    examples: int = 0

    def since(self, before: Held) -> Held:
        return Held(self.records - before.records, self.pictures - before.pictures, self.examples - before.examples)


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge took, and the proof: SHA-256 of the key records before and after, by folder. The audit has it under
    `name`."""

    name: str
    purposes: tuple[str, ...]
    why: str
    records: int
    pictures: int
    examples: int
    keys_before: Mapping[str, str]
    keys_after: Mapping[str, str]


class Intent(msgspec.Struct, frozen=True):
    """A purge that has begun. `records` and `pictures` had been erased before, `examples` were there."""

    name: str
    purposes: tuple[int, ...]
    why: str
    records: int
    pictures: int
    examples: int
    keys: dict[str, str]
    version: int = 1

    @property
    def wanted(self) -> frozenset[Purpose]:
        return frozenset(map(Purpose, self.purposes))


def purposes_named(names: Iterable[str]) -> frozenset[Purpose]:
    """Raises UsageFault for what is no purpose."""
    known = {purpose.name.lower(): purpose for purpose in Purpose}
    found = set[Purpose]()
    for name in names:
        if name.lower() == ALL:
            found |= set(Purpose)
        elif name.lower() in known:
            found.add(known[name.lower()])
        else:
            like = nearest(name.lower(), [*known, ALL])
            hint = f"Did you mean {like}?" if like else f"There are {', '.join(known)}, and {ALL}."
            raise UsageFault(f"{name!r} is no purpose. {hint}")
    return frozenset(found)


class PurgeLog:
    """The intent and the audit, in the state's folder `privacy`. Raises DiskError. One at a time."""

    def __init__(self, state: Disk, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        self._state = state
        self._clock = clock
        self._entropy = entropy
        self._folder = FolderDisk(state, PRIVACY_FOLDER)
        self._folder.make_folder("")
        self._record = TwinRecord(self._folder, _INTENT)

    def pending(self) -> Intent | None:
        """What another life began. One that can't be read any more is said as one of everything: too much is erased
        rather than too little."""
        try:
            encoded = self._record.read_both()
            return msgspec.msgpack.decode(encoded, type=Intent) if encoded else None
        except (TwinLost, msgspec.DecodeError):
            return Intent("", tuple(map(int, Purpose)), Why.ASKED, 0, 0, 0, {})

    def begin(self, purposes: Iterable[Purpose], why: Why, held: Held) -> Intent:
        """Durable in both twins when it returns: from here on it is finished, whatever comes."""
        intent = Intent(
            self._entropy(_NAME_BYTES).hex(), tuple(sorted(map(int, purposes))), why, held.records, held.pictures,
            held.examples, key_digests(self._state),
        )  # fmt: skip
        unfinished = self.pending()
        if unfinished is not None and unfinished.name:
            # It began from what that one had found.
            both = tuple(sorted({*intent.purposes, *unfinished.purposes}))
            intent = msgspec.structs.replace(unfinished, name=intent.name, purposes=both, why=why)
        elif unfinished is not None:
            intent = msgspec.structs.replace(intent, purposes=unfinished.purposes)
        self._write(msgspec.msgpack.encode(intent))
        return intent

    def end(self, intent: Intent, held: Held) -> Purged:
        """Said in the audit, once, and taken back: every store has erased what was wanted."""
        took = held.since(Held(intent.records, intent.pictures))
        purged = Purged(
            name=intent.name,
            purposes=tuple(purpose.name.lower() for purpose in sorted(intent.wanted)),
            why=intent.why,
            records=took.records,
            pictures=took.pictures,
            examples=intent.examples - held.examples,
            keys_before=intent.keys,
            keys_after=key_digests(self._state),
        )
        audit = self.audit()
        if any(intent.name in entry.detail for entry in audit.entries()):
            audit.sync()
        else:
            audit.add("purged", msgspec.json.encode(purged).decode())
        self._write(b"")
        return purged

    def audit(self) -> Audit:
        return Audit(self._folder, self._clock, "")

    def _write(self, payload: bytes) -> None:
        try:
            self._record.write_both(payload)
        except TwinLost:
            self._record.start_anew(payload)


def key_digests(state: Disk) -> dict[str, str]:
    """Of each folder that has keys. Raises DiskError."""
    folders = ((name, FolderDisk(state, name)) for name in _VAULTS if state.exists(name))
    return {name: digest for name, folder in folders if (digest := digest_of_keys(folder))}


def unwanted(state: Disk, keys: Sealer, consents: Iterable[Purpose]) -> frozenset[Purpose]:
    """Purposes that nobody consents to and of which something here may be readable: there is a key. Touches nothing."""
    kept = set[Purpose]()
    for name, realm in _VAULTS.items():
        if state.exists(name):
            vault = Vault(FolderDisk(state, name), keys, bytes, realm)
            vault.peek()
            kept |= vault.purposes
    return frozenset(kept - set(consents))


@dataclass(frozen=True, slots=True)
class Folders:
    """A state that no agent uses meanwhile, and what its stores are opened with."""

    state: Disk
    keys: Sealer
    clock: Clock
    entropy: Callable[[int], bytes]
    spool: SpoolLimits
    objects: ObjectsConfig
    spool_counters: Counters
    object_counters: Counters

    def purge(self, purposes: Iterable[Purpose], why: Why) -> Purged:
        """Idempotent. Raises OutriderError; what was begun is then finished by the next one, or the next start."""
        return self._finish(purposes, why, PurgeLog(self.state, self.clock, self.entropy))

    def settle(self, consents: Iterable[Purpose]) -> Purged | None:
        """What a start does first: finishes what was begun, and erases what nobody consents to any more. None where
        there is neither. Raises OutriderError."""
        log = PurgeLog(self.state, self.clock, self.entropy)
        doomed = unwanted(self.state, self.keys, consents)
        if doomed or log.pending() is not None:
            return self._finish(doomed, Why.NO_CONSENT, log)
        return None

    def _finish(self, purposes: Iterable[Purpose], why: Why, log: PurgeLog) -> Purged:
        wanted, pending = frozenset(purposes), log.pending()
        with contextlib.ExitStack() as stack:
            spool, objects = self._open_spool(stack), self._open_objects(stack)
            if pending is None or not pending.name or not wanted <= pending.wanted:
                pending = log.begin(wanted, why, self._held(spool, objects))
            for purpose in sorted(pending.wanted):
                if spool is not None:
                    spool.erase(purpose)
                if objects is not None:
                    objects.erase(purpose)
            if Purpose.LEARNING in pending.wanted:
                forget_learning(self.state, self.keys, self.entropy)
            return log.end(pending, self._held(spool, objects))

    def _held(self, spool: Spool | None, objects: ObjectStore | None) -> Held:
        return Held(
            records_erased(spool.counts()) if spool is not None else 0,
            objects.counts().erased if objects is not None else 0,
            examples_in(self.state),
        )

    def _open_spool(self, stack: contextlib.ExitStack) -> Spool | None:
        if not self.state.exists(SPOOL_FOLDER):
            return None
        disk = FolderDisk(self.state, SPOOL_FOLDER)
        spool = Spool.open(disk, self.keys, self.clock, self.entropy, self.spool, self.spool_counters)
        stack.callback(spool.close)
        return spool

    def _open_objects(self, stack: contextlib.ExitStack) -> ObjectStore | None:
        if not self.state.exists(OBJECTS_FOLDER):
            return None
        disk = FolderDisk(self.state, OBJECTS_FOLDER)
        objects = ObjectStore.open(disk, self.keys, self.entropy, self.objects, self.object_counters)
        stack.callback(objects.close)
        return objects


def records_erased(counts: SpoolCounts) -> int:
    """On flash, and before they came there."""
    return sum(lane.erased + lane.dropped.get(Dropped.ERASED, 0) for lane in counts.lanes)


def examples_in(state: Disk) -> int:
    return ExampleStore.files(FolderDisk(state, EXAMPLES_FOLDER)) if state.exists(EXAMPLES_FOLDER) else 0


def erase_objects(
    state: Path, keys: Sealer, entropy: Callable[[int], bytes], config: ObjectsConfig, purpose: Purpose
) -> int:
    """Of a store that nobody has opened; how many pictures that were. Raises LedgerTaken, OutriderError."""
    if not (state / OBJECTS_FOLDER).is_dir():
        return 0
    counters = Ledger.open(state / OBJECT_COUNTERS_NAME, OBJECT_LEDGER_NAMES, boot_id().encode())
    with contextlib.closing(counters):
        store = ObjectStore.open(RealDisk(state / OBJECTS_FOLDER), keys, entropy, config, counters)
        with contextlib.closing(store):
            return store.erase(purpose)


def forget_learning(state: Disk, keys: Sealer, entropy: Callable[[int], bytes]) -> None:
    """What was kept to learn from, what is owed and what waits, whatever there is of it. Raises DiskError."""
    with contextlib.ExitStack() as both:
        if state.exists(BOOK_FOLDER):
            both.callback(LearningBook.purge, FolderDisk(state, BOOK_FOLDER), keys)
        if state.exists(EXAMPLES_FOLDER):
            both.callback(ExampleStore.destroy, FolderDisk(state, EXAMPLES_FOLDER), keys, entropy)


def purge_state(
    state: Path, names: Iterable[str], config: AgentConfig, clock: Clock, entropy: Callable[[int], bytes]
) -> Purged:
    """Of a state whose agent doesn't run. Raises UsageFault, KeysTaken (one runs after all, or a pairing), and
    OutriderError."""
    if not (state / KEYS_FOLDER).is_dir():
        raise UsageFault(f"{state} is no agent's state, so there is nothing to purge. Name it with --state.")
    keys = FileKeyStore.open(state / KEYS_FOLDER)
    with opened_folders(state, keys, clock, entropy, config.spool, config.objects) as folders:
        return folders.purge(purposes_named(names), Why.ASKED)


def settle_state(
    state: Path,
    keys: Sealer,
    clock: Clock,
    entropy: Callable[[int], bytes],
    spool: SpoolLimits,
    objects: ObjectsConfig,
    consents: Iterable[Purpose],
) -> Purged | None:
    """As Folders.settle, of a real folder; opens nothing where there is nothing to do."""
    disk = RealDisk(state)
    if not unwanted(disk, keys, consents) and PurgeLog(disk, clock, entropy).pending() is None:
        return None
    with opened_folders(state, keys, clock, entropy, spool, objects) as folders:
        return folders.settle(consents)


@contextlib.contextmanager
def opened_folders(
    state: Path, keys: Sealer, clock: Clock, entropy: Callable[[int], bytes], spool: SpoolLimits, objects: ObjectsConfig
) -> Iterator[Folders]:
    """Of a state in a real folder, whose keys this process holds: no agent starts on it meanwhile. Raises LedgerTaken,
    DiskError."""
    boot = boot_id().encode()
    with contextlib.ExitStack() as stack:
        counters = []
        for name, names in ((COUNTERS_NAME, LEDGER_NAMES), (OBJECT_COUNTERS_NAME, OBJECT_LEDGER_NAMES)):
            counters.append(Ledger.open(state / name, names, boot))
            stack.callback(counters[-1].close)
        yield Folders(RealDisk(state), keys, clock, entropy, spool, objects, *counters)


class PurgeUnfinished(OutriderError):
    """Not all of it could be erased now; the next start, or the same purge again, finishes it."""
