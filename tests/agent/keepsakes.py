"""A state folder with something kept for every purpose, on a disk of the test's choice; and a thief who tries keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.folders import EXAMPLES_FOLDER, OBJECTS_FOLDER, SPOOL_FOLDER
from agent.purge import Folders
from ecu.clock import SteppingClock
from ecu.disk import Disk, DiskDenied, FolderDisk
from ecu.keys import KeyStore, MemoryKeyStore, UnsealError
from telemetry.federated.book import LearningBook
from telemetry.federated.examples import REALM as EXAMPLES
from telemetry.federated.examples import ExampleStore
from telemetry.federated.plan import LabelSource, Plan
from telemetry.federated.update import ModelUpdate
from telemetry.objects.format import HEADER_BYTES, unpack_header
from telemetry.objects.format import REALM as OBJECTS
from telemetry.records import Lane, Purpose
from telemetry.spool.counts import Counters, MemoryCounters
from telemetry.spool.format import FRAME_HEADER_BYTES, unpack_frame_header, unpack_segment_header
from telemetry.spool.limits import PAGE_BYTES
from telemetry.spool.vault import SEGMENTS, Realm, Vault
from tests.telemetry.federated.test_examples import LIMITS, NOW, example
from tests.telemetry.objects.rig import SMALL as SMALL_OBJECTS
from tests.telemetry.objects.rig import Rig as ObjectRig
from tests.telemetry.objects.rig import no_counters
from tests.telemetry.spool.rig import SMALL as SMALL_SPOOL
from tests.telemetry.spool.rig import Rig as SpoolRig
from tests.telemetry.spool.rig import record, seeded_entropy

PLAN = Plan(
    name="lights-1", model="light-state", base="a" * 64, graph="b" * 64, layout="c" * 64, parameters=1,
    source=LabelSource.CONFIRMED, steps=1, batch=1, learning_rate=0.1, clip=1.0, keep=1, min_examples=1, updates=2,
    max_staleness=1, not_after=1 << 34,
)  # fmt: skip
WAITING = b"what was learned, and waits"
LANE_OF = {
    Purpose.SAFETY: Lane.P0, Purpose.DRIVING: Lane.P1, Purpose.PERCEPTION: Lane.P1, Purpose.OPERATION: Lane.P1,
    Purpose.LEARNING: Lane.P3,
}  # fmt: skip


@dataclass
class Keepsakes:
    """`fill` puts one thing of each kind for each of `purposes` there, and ends in order."""

    disk: Disk
    keys: KeyStore = field(default_factory=MemoryKeyStore)
    purposes: tuple[Purpose, ...] = tuple(Purpose)

    def fill(self) -> None:
        spool = SpoolRig(self.folder(SPOOL_FOLDER), limits=SMALL_SPOOL, keys=self.keys, seed=1)
        for purpose in self.purposes:
            spool.put(record(int(purpose), LANE_OF[purpose], purpose))
        spool.spool.close()
        if Purpose.PERCEPTION in self.purposes:
            objects = ObjectRig(self.folder(OBJECTS_FOLDER), no_counters(), SMALL_OBJECTS, self.keys, seed=2)
            objects.put(1, size=40)
            objects.store.close()
        if Purpose.LEARNING in self.purposes:
            self.folder("learning").make_folder("")
            book = LearningBook(self.folder("learning"), self.keys)
            update = ModelUpdate(PLAN.name, PLAN.base, PLAN.graph, PLAN.layout, 1, WAITING)
            book.commit(PLAN, update, b"what is owed", 1)
            self.examples(seed=3).put(example(1))

    def folder(self, name: str) -> FolderDisk:
        return FolderDisk(self.disk, name)

    def examples(self, seed: int) -> ExampleStore:
        return ExampleStore.open(self.folder(EXAMPLES_FOLDER), self.keys, seeded_entropy(seed), LIMITS, NOW)

    def folders(self, seed: int, counters: Counters | None = None) -> Folders:
        return Folders(
            self.disk, self.keys, SteppingClock(), seeded_entropy(seed), SMALL_SPOOL, SMALL_OBJECTS,
            counters or MemoryCounters(was_lost=True), no_counters(was_lost=True),
        )  # fmt: skip

    # --- what is there ---

    def readable(self, seed: int) -> dict[Purpose, int]:
        """How many things of each purpose a vehicle can still read, by its own means."""
        found = dict.fromkeys(Purpose, 0)
        if self.disk.exists(SPOOL_FOLDER):
            rig = SpoolRig(self.folder(SPOOL_FOLDER), MemoryCounters(was_lost=True), SMALL_SPOOL, self.keys, seed)
            for ref in rig.blocks():
                rig.spool.load(ref)
                found[ref.purpose] += ref.count
        if self.disk.exists(OBJECTS_FOLDER):
            store = ObjectRig(
                self.folder(OBJECTS_FOLDER), no_counters(was_lost=True), SMALL_OBJECTS, self.keys, seed
            ).store
            for kept in store.kept():
                store.read(kept, 0, kept.bytes)
                found[kept.purpose] += 1
        if self.disk.exists(EXAMPLES_FOLDER):
            found[Purpose.LEARNING] += len(self.examples(seed).read(NOW))
        if self.disk.exists("learning"):
            book = LearningBook(self.folder("learning"), self.keys)
            found[Purpose.LEARNING] += (book.waiting is not None) + bool(book._page.owed)
        return found


def files_of(disk: Disk, folder: str = "") -> Iterator[tuple[str, bytes]]:
    for name in disk.names(folder):
        path = f"{folder}/{name}" if folder else name
        try:
            yield path, disk.read(path)
        except DiskDenied:  # a folder
            yield from files_of(disk, path)


Key = tuple[str, Purpose, bytes]
_REALMS: dict[str, Realm] = {SPOOL_FOLDER: SEGMENTS, OBJECTS_FOLDER: OBJECTS, EXAMPLES_FOLDER: EXAMPLES}


def keys_on(disk: Disk, keys: KeyStore) -> list[Key]:
    """Every key that can be had from the key records of a disk: (folder, purpose, key)."""
    found: list[Key] = []
    for name, realm in _REALMS.items():
        if disk.exists(name):
            vault = Vault(FolderDisk(disk, name), keys, bytes, realm)
            vault.peek()
            for lane, purpose in vault._wrapped:
                try:
                    found.append(
                        (name, purpose, keys.unseal(vault._label((lane, purpose)), vault._wrapped[lane, purpose]))
                    )
                except UnsealError:
                    continue
    return found


def wrapped_on(disk: Disk, keys: KeyStore, purposes: frozenset[Purpose]) -> list[bytes]:
    """The sealed keys of purposes, as they lie in the key records."""
    found = []
    for name, realm in _REALMS.items():
        if disk.exists(name):
            vault = Vault(FolderDisk(disk, name), keys, bytes, realm)
            vault.peek()
            found += [sealed for (_, purpose), sealed in vault._wrapped.items() if purpose in purposes]
    return found


def decrypted(files: dict[str, bytes], keys: list[Key]) -> int:
    """How many ciphertexts in these bytes open under any of the keys, by what is known of the formats."""
    opened = 0
    for path, data in files.items():
        folder = path.partition("/")[0]
        mine = [key for name, _, key in keys if name == folder]
        opened += sum(_opens(sealed, mine) for sealed in _sealed_in(path, data))
    return opened


@dataclass(frozen=True, slots=True)
class _Sealed:
    info: bytes
    salt: bytes
    nonce: bytes
    body: bytes
    head: bytes


def _opens(sealed: _Sealed, keys: list[bytes]) -> bool:
    for key in keys:
        derived = HKDF(hashes.SHA256(), length=32, salt=sealed.salt, info=sealed.info).derive(key)
        try:
            AESGCM(derived).decrypt(sealed.nonce, sealed.body, sealed.head)
        except InvalidTag:
            continue
        return True
    return False


def _sealed_in(path: str, data: bytes) -> Iterator[_Sealed]:
    if path.endswith(".seg"):
        header = unpack_segment_header(data[:PAGE_BYTES])
        if header is None:
            return
        for at in range(2 * PAGE_BYTES, len(data), PAGE_BYTES):
            frame = unpack_frame_header(data[at:], header.salt)
            if frame is not None:
                head, body = data[at : at + FRAME_HEADER_BYTES], data[at + FRAME_HEADER_BYTES :][: frame.cipher_bytes]
                yield _Sealed(SEGMENTS.info + header.spool_id, header.salt, frame.nonce, body, head)
    elif path.endswith(".obj"):
        told = unpack_header(data)
        yield _Sealed(
            OBJECTS.info + bytes.fromhex(told.ref.sha256), told.salt, bytes(12), data[HEADER_BYTES:],
            data[:HEADER_BYTES],
        )  # fmt: skip
    elif path.endswith(".ex"):
        serial = int(path.rpartition("/")[2][:-3])
        yield _Sealed(EXAMPLES.info + serial.to_bytes(8, "little"), data[4:20], bytes(12), data[20:], data[:20])
