"""A block in quarantine leaves a copy to be looked at: encrypted, few, and never in anybody's way."""

from __future__ import annotations

import pytest

from ecu.clock import SECOND_NS
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault, DiskFull
from telemetry.records import Lane
from telemetry.spool.copies import MOST_COPIES, copies
from telemetry.spool.format import unpack_segment_header
from telemetry.spool.frames import open_frame
from telemetry.spool.limits import PAGE_BYTES
from telemetry.spool.vault import Vault
from telemetry.wire import BadBlock
from tests.telemetry.spool.rig import ROOMY, Rig, record, seeded_entropy


@pytest.fixture
def rig() -> Rig:
    return Rig(CrashDisk(), limits=ROOMY)


def test_a_refused_block_can_be_read_from_its_copy_with_the_vehicles_keys(rig: Rig) -> None:
    rig.put(record(1))
    [ref] = rig.blocks()
    block = rig.spool.load(ref)
    rig.spool.quarantine(ref, "no")
    [name] = copies(rig.disk)
    data = rig.disk.read(name)
    header = unpack_segment_header(data[:PAGE_BYTES])
    assert header is not None
    vault = Vault(rig.disk, rig.keys, seeded_entropy(9))
    vault.peek()
    cipher = vault.cipher(ref.lane, ref.purpose, header.spool_id, header.salt)
    assert open_frame(data[PAGE_BYTES:], cipher, header.salt)[1] == block


def test_the_bytes_of_a_damaged_block_are_kept_as_they_are(rig: Rig) -> None:
    rig.put(record(1))
    [ref] = rig.blocks()
    assert isinstance(rig.disk, CrashDisk)
    rig.disk.flip_bit(f"p1-{ref.serial:08d}.seg", (ref.page * PAGE_BYTES + 60) * 8)
    there = rig.disk.read_at(f"p1-{ref.serial:08d}.seg", ref.page * PAGE_BYTES, PAGE_BYTES)
    with pytest.raises(BadBlock):
        rig.spool.load(ref)
    assert rig.disk.read(copies(rig.disk)[0])[PAGE_BYTES:] == there
    assert rig.spool.counts().copies == 1


def test_few_are_kept_the_newest_of_them(rig: Rig) -> None:
    for number in range(MOST_COPIES + 3):
        rig.put(record(number, size=6000))
    refs = rig.blocks()
    for ref in refs:
        rig.spool.quarantine(ref, "no")
    assert len(copies(rig.disk)) == MOST_COPIES
    assert f"{refs[-1].serial:08d}" in copies(rig.disk)[-1]


def test_a_full_disk_takes_no_copy_and_the_block_leaves_all_the_same(rig: Rig) -> None:
    rig.put(record(1))
    assert isinstance(rig.disk, CrashDisk)
    rig.disk.fail(lambda call: call.act == "create", DiskFull("full"))
    assert rig.spool.quarantine(rig.blocks()[0], "no") == 1
    assert copies(rig.disk) == []
    assert rig.spool.counts().lanes[Lane.P1].quarantined == {"refused": 1}


def test_a_start_leaves_copies_alone(rig: Rig) -> None:
    rig.put(record(1))
    rig.spool.quarantine(rig.blocks()[0], "no")
    rig.spool.close()
    rig.open()
    assert rig.spool.counts().copies == 1


def test_a_copy_gets_no_older_than_its_block_might_have_over_restarts_too(rig: Rig) -> None:
    # Mutations: a copy that names no time stays for ever; a start that only looks where there are segments, as well.
    rig.put(record(1, keep_s=60))
    rig.put(record(2))
    for ref in rig.blocks():
        rig.spool.quarantine(ref, "no")
    assert rig.spool.counts().copies == 2
    rig.clock.advance(rig.clock.boot_ns() + 50 * SECOND_NS)
    rig.spool.expire()
    assert rig.spool.counts().copies == 2
    rig.spool.close()
    rig.open()
    look_ns = rig.spool.look_ns()
    assert look_ns is not None
    rig.clock.advance(rig.clock.boot_ns() + 20 * SECOND_NS)
    rig.spool.expire()
    assert rig.spool.counts().copies == 1
    rig.clock.advance(rig.clock.boot_ns() + 10 * 365 * 86_400 * SECOND_NS)
    rig.spool.expire()
    assert rig.spool.counts().copies == 1


def test_the_next_look_is_no_later_than_a_copy_is_due(rig: Rig) -> None:
    rig.put(record(1, keep_s=60))
    due_ns = rig.clock.boot_ns() + 70 * SECOND_NS
    rig.spool.quarantine(rig.blocks()[0], "no")
    rig.spool.close()
    rig.open()  # nothing else grows old here
    rig.spool.expire()
    look_ns = rig.spool.look_ns()
    assert look_ns is not None
    assert look_ns <= due_ns


def test_a_copy_that_cannot_be_removed_is_removed_later(rig: Rig) -> None:
    rig.put(record(1, keep_s=60))
    rig.spool.quarantine(rig.blocks()[0], "no")
    rig.clock.advance(rig.clock.boot_ns() + 70 * SECOND_NS)
    assert isinstance(rig.disk, CrashDisk)
    rig.disk.fail(lambda call: call.act == "remove", DiskFault("bad sector"))
    rig.spool.expire()
    assert rig.spool.counts().copies == 1
    rig.disk.heal()
    rig.spool.expire()
    assert (rig.spool.counts().copies, copies(rig.disk)) == (0, [])
