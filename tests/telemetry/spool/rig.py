"""A spool on a disk, driven in one thread, and a receiver in the test's hand that knows each record by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import count

from ecu.clock import SteppingClock
from ecu.disk import Disk
from ecu.keys import KeyStore, MemoryKeyStore
from telemetry.confirmations import Confirmation
from telemetry.records import Health, Lane, Purpose, Record, RecordsLeft, decode_event, record_digest
from telemetry.spool.blocks import BlockRef
from telemetry.spool.ciphers import MakeAead, aes_gcm
from telemetry.spool.counts import Counters, MemoryCounters
from telemetry.spool.limits import PAGE_BYTES, SpoolLimits
from telemetry.spool.spool import Spool
from telemetry.wire import Receipt, unpack_block, unpack_body

Key = tuple[int, bytes, int]
Told = tuple[int, bytes, int, int]
"""Lane, epoch, start and end of what a receiver heard has left."""

SMALL = SpoolLimits(
    max_bytes=6 * 5 * PAGE_BYTES,
    segment_bytes=5 * PAGE_BYTES,  # two pages of frames
    reserve_segments=(1, 1, 1, 1),
    queue_records=1000,
)

WIDE = SMALL.model_copy(update={"segment_bytes": 8 * PAGE_BYTES, "max_bytes": 6 * 8 * PAGE_BYTES})
ROOMY = SMALL.model_copy(update={"max_bytes": 32 * SMALL.segment_bytes})


def seeded_entropy(seed: int | str) -> Callable[[int], bytes]:
    """Unpredictable enough, never the same twice, and the same in each run of a test."""
    calls = count()
    return lambda length: hashlib.shake_256(f"{seed}:{next(calls)}".encode()).digest(length)


def record(
    number: int, lane: Lane = Lane.P1, purpose: Purpose = Purpose.PERCEPTION, size: int = 10, keep_s: int | None = None
) -> Record:
    """Incompressible, so that `size` decides how many pages it takes."""
    noise = hashlib.shake_256(str(number).encode()).hexdigest(size // 2)
    return Record(lane, purpose, number, Health(f"n{number}", noise), keep_s)


class Rig:
    """Opens, and opens again after whatever a test did to the disk."""

    def __init__(
        self,
        disk: Disk,
        counters: Counters | None = None,
        limits: SpoolLimits = SMALL,
        keys: KeyStore | None = None,
        seed: int | str = 0,
        aead: MakeAead = aes_gcm,
    ) -> None:
        self.aead = aead
        self.disk = disk
        self.counters = counters or MemoryCounters()
        self.limits = limits
        self.keys = keys or MemoryKeyStore()
        self.clock = SteppingClock()
        self.entropy = seeded_entropy(seed)
        self.confirmed: dict[Key, bytes] = {}
        self.stored: dict[Key, bytes] = {}
        self.told = set[Told]()
        self.offered = 0
        self.spool = self.open()

    def open(self) -> Spool:
        self.spool = Spool.open(self.disk, self.keys, self.clock, self.entropy, self.limits, self.counters, self.aead)
        return self.spool

    def offer(self, *records: Record) -> int:
        self.offered += len(records)
        return sum(self.spool.offer(r, self.clock.wall_ns()) for r in records)

    def commit(self) -> tuple[Confirmation, ...]:
        batch = self.spool.take(self.clock.boot_ns(), everything=True)
        confirmed = self.spool.settle(self.spool.write(batch)) if batch else ()
        for item in confirmed:
            assert key_of(item) not in self.confirmed, "one name for two records"
            self.confirmed[key_of(item)] = item.digest
        return confirmed

    def tell(self) -> bool:
        told = self.spool.tell_what_left(self.clock.wall_ns(), lambda record: record)
        self.offered += told
        return told

    def put(self, *records: Record) -> tuple[Confirmation, ...]:
        self.offer(*records)
        return self.commit()

    def blocks(self) -> list[BlockRef]:
        return [ref for lane in Lane for ref in self.lane_blocks(lane)]

    def lane_blocks(self, lane: Lane) -> list[BlockRef]:
        found: list[BlockRef] = []
        while ref := self.spool.next_unsent(lane, found[-1] if found else None):
            found.append(ref)
        return found

    def read(self) -> list[Confirmation]:
        """Everything spooled, in the order it would be sent; damaged blocks raise."""
        return [item for ref in self.blocks() for item in records_of(self.spool.load(ref))]

    def send(self, ref: BlockRef) -> None:
        self.spool.mark_sent(ref)
        block = self.spool.load(ref)
        self.told |= told_in(block)
        for item in records_of(block):
            assert self.stored.setdefault(key_of(item), item.digest) == item.digest, "one name for two records"

    def acknowledge(self, *refs: BlockRef) -> int:
        for ref in refs:
            self.send(ref)
        return sum(self.spool.acknowledge(receipt_for(ref)) for ref in refs)

    def drain(self) -> int:
        return self.acknowledge(*self.blocks())


def key_of(item: Confirmation) -> Key:
    return item.lane, item.epoch, item.seq


def records_of(block: bytes) -> Sequence[Confirmation]:
    header, body = unpack_block(block)
    return [
        Confirmation(int(header.lane), header.epoch, header.base_seq + i, record_digest(stored))
        for i, stored in enumerate(unpack_body(header, body))
    ]


def told_in(block: bytes) -> set[Told]:
    events = [decode_event(stored.event) for stored in unpack_body(*unpack_block(block))]
    left = [event for event in events if isinstance(event, RecordsLeft)]
    return {(event.lane, event.epoch, *part) for event in left for part in event.ranges}


def receipt_for(ref: BlockRef) -> Receipt:
    return Receipt(ref.lane, ref.epoch, ((ref.base_seq, ref.end_seq),))
