"""The vehicle's own spool on a disk that loses power, at every instant, un-synced writes kept, lost or torn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.keys import MemoryKeyStore
from simulator.demo.judge import PowerCuts
from telemetry.confirmations import Confirmation
from telemetry.records import HardBrake, Lane, NewTrack, Record, Stored, VehicleSummary, record_digest, record_of
from telemetry.signals import vss
from telemetry.spool import Spool, SpoolLimits
from telemetry.spool.counts import MemoryCounters
from telemetry.wire import BadBlock, unpack_block, unpack_body

Name = tuple[int, bytes, int]
LIMITS: Final = SpoolLimits(segment_bytes=8 * 4096, max_bytes=64 * 4096, reserve_segments=(1, 1, 1, 1))


def cut_power(commits: int, disk: CrashDisk | None = None) -> PowerCuts:
    """Runs the spool through `commits` commits; each disk that a power cut could leave must hold what was confirmed."""
    held = list(cuts(commits, disk or CrashDisk()))
    return PowerCuts(len(held), held.count(False))


def cuts(commits: int, disk: CrashDisk) -> Iterator[bool]:
    """Of each disk that a cut could leave, whether it holds what was confirmed. All calls to `disk` come before the
    first."""
    keys = MemoryKeyStore()
    confirmed: dict[str, list[Confirmation]] = {}
    spool = _open(disk, keys)
    for number in range(commits):
        for record in _records(number):
            spool.offer(record, wall_ns=number)
        batch = spool.take(0, everything=True)
        assert batch is not None
        confirmed[f"commit {number}"] = list(spool.settle(spool.write(batch)))
        disk.mark(f"commit {number}")
    for state in disk.after_crash():
        yield _holds(state.disk, keys, [said for mark in state.acknowledged for said in confirmed[mark]])


def _open(disk: CrashDisk, keys: MemoryKeyStore) -> Spool:
    numbers = iter(range(1, 1 << 16))

    def entropy(size: int) -> bytes:
        # Another open is another boot: its numbers must differ, as a real source's would.
        return (len(disk.calls) << 32 | next(numbers)).to_bytes(size, "big")

    return Spool.open(disk, keys, SteppingClock(), entropy, LIMITS, MemoryCounters())


def _records(number: int) -> tuple[Record, ...]:
    t_ns = number * 1_000_000_000
    place = {vss.SPEED: 88.5, vss.BRAKE_PEDAL: float(number)}
    return (
        record_of(t_ns, VehicleSummary(place)),
        record_of(t_ns + 1, NewTrack("front", number, number, "car", 0.8, (1.0, 2.0, 3.0, 4.0))),
        record_of(t_ns + 2, HardBrake(5.5, 88.5, place)),
    )


def _holds(disk: CrashDisk, keys: MemoryKeyStore, promised: list[Confirmation]) -> bool:
    """Every confirmed record can be read, once, with its own bytes; and law 1 holds."""
    try:
        spool = _open(disk, keys)
        found = _contents(spool)
    except (BadBlock, OSError, ValueError):
        return False
    kept = all(found.get((said.lane, said.epoch, said.seq)) == said.digest for said in promised)
    return kept and spool.counts().holds


def _contents(spool: Spool) -> Mapping[Name, bytes]:
    found: dict[Name, bytes] = {}
    for lane in Lane:
        ref = spool.next_unsent(lane, None)
        while ref is not None:
            header, body = unpack_block(spool.load(ref))
            for offset, record in enumerate(unpack_body(header, body)):
                _put(found, (int(lane), header.epoch, header.base_seq + offset), record)
            ref = spool.next_unsent(lane, ref)
    return found


def _put(found: dict[Name, bytes], name: Name, record: Stored) -> None:
    if name in found:
        raise ValueError(f"{name} is there twice")
    found[name] = record_digest(record)
