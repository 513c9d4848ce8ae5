"""The boot record, version 1: frozen. Every release of the runtime reads what every other one wrote.

Mutants of ota/slots.py that these tests were seen to catch: a field renamed, reordered or given another default; a
write to one twin; words that aren't cut, or not escaped; an unknown key refused.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskDenied, DiskError, DiskFault, DiskFull
from ecu.twin import TwinRecord
from ota.attempts import Boot
from ota.denied import Denied
from ota.errors import MOST_WORDS
from ota.floors import Floors
from ota.kinds import Kind
from ota.machine import Event, State
from ota.slots import BootRecord, Installed, Slot, Slots
from ota.trial import Trial

VECTOR: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/ota/boot-record.json").read_text())
RECORD = BootRecord(
    good=Slot.A,
    trial=Slot.B,
    state=State.SHADOW,
    attempts=2,
    spent_ns=600_000_000_000,
    slots={
        Slot.A: Installed("a" * 64, 4, "model drive 1.0 (release 4)"),
        Slot.B: Installed("b" * 64, 5, "model drive 1.1 (release 5)"),
    },
)
"""As the first version of it wrote it."""
WHOLE = msgspec.structs.replace(
    RECORD,
    state=State.TRIAL,
    bootable_from=3,
    left={"c" * 64: 2},
    boots=[Boot("0f7ee2a6-7a0f-4a5e-9f0c-0a4d1c9b2a11", "exit 1"), Boot("0f7ee2a6-7a0f-4a5e-9f0c-0a4d1c9b2a11")],
    slots={**RECORD.slots, Slot.B: Installed("b" * 64, 5, "model drive 1.1 (release 5)", 3)},
)


def block(payload: bytes, number: int) -> bytes:
    """Made from docs/formats/boot-record.md alone."""
    body = struct.pack("<QI", number, len(payload)) + payload
    return (b"OTWN" + struct.pack("<II", 1, zlib.crc32(body)) + body).ljust(4096, b"\0")


@pytest.mark.parametrize("fault", [DiskFault("worn"), DiskFull("no space left"), DiskDenied("read-only")])
@pytest.mark.parametrize("act", ["write_at", "sync", "sync_folder"])
def test_a_record_that_cant_be_settled_at_a_start_is_no_damaged_one(act: str, fault: DiskError) -> None:
    disk = on_disk(msgspec.json.encode(RECORD))
    disk.fail(lambda call: call.act == act and call.path.startswith("model"), fault)
    slots = Slots(disk, Kind.MODEL)
    assert (slots.record, slots.lost, slots.damage) == (RECORD, False, None)
    with pytest.raises(type(fault)):
        slots.write(WHOLE)
    disk.heal()
    assert Slots(disk.after_shutdown(), Kind.MODEL).record in (RECORD, WHOLE)
    slots.write(WHOLE)
    assert Slots(disk.after_shutdown(), Kind.MODEL).record == WHOLE


def on_disk(payload: bytes) -> CrashDisk:
    disk = CrashDisk()
    disk.make_folder("model")
    for number in (0, 1):
        disk.create(f"model/boot.{number}")
        disk.write_at(f"model/boot.{number}", 0, block(payload, number))
    return disk


def disk_payload(disk: CrashDisk) -> bytes:
    payload = TwinRecord(disk, "model/boot").read()
    assert payload is not None
    return payload


def test_what_is_written_is_the_golden_vector() -> None:
    disk = CrashDisk()
    Slots(disk, Kind.MODEL).write(WHOLE)
    for number in (0, 1):
        written = disk.read(f"model/boot.{number}")
        assert written == block(VECTOR["payload"].encode(), number)
        assert written[:24].hex() == VECTOR[f"head_{number}"]


def test_every_write_goes_to_both_files() -> None:
    disk = on_disk(b"{}")
    Slots(disk, Kind.MODEL).write(WHOLE)
    assert all(VECTOR["payload"].encode() in disk.read(f"model/boot.{number}") for number in (0, 1))


@pytest.mark.parametrize(("vector", "record"), [("payload", WHOLE), ("earlier", RECORD)])
def test_the_golden_vectors_are_read(vector: str, record: BootRecord) -> None:
    slots = Slots(on_disk(VECTOR[vector].encode()), Kind.MODEL)
    assert (slots.record, slots.lost) == (record, False)


def test_the_longest_record_there_can_be_fits_its_block() -> None:
    disk = CrashDisk()
    its = Installed("f" * 64, 1 << 53, "x" * 160, 1 << 53)
    boots = [Boot("f" * 36, "x" * 64)] * 8
    words = "\U0001f697" * 5_000
    record = msgspec.structs.replace(WHOLE, slots={Slot.A: its, Slot.B: its}, boots=boots, words=words)
    Slots(disk, Kind.MODEL).write(record)
    assert len(Slots(disk, Kind.MODEL).record.words) == MOST_WORDS


def test_the_page_shows_the_golden_vectors_heads() -> None:
    page = (Path(__file__).parents[2] / "docs/formats/boot-record.md").read_text()
    assert VECTOR["head_0"] in page
    assert VECTOR["head_1"] in page
    assert all(f"| `{field}` |" in page for field in BootRecord.__struct_fields__)


def test_what_a_later_release_added_is_ignored_and_what_an_earlier_one_lacked_has_its_value() -> None:
    payload = json.loads(VECTOR["payload"]) | {"mood": "sunny"}
    payload["slots"]["a"]["colour"] = "red"
    assert Slots(on_disk(json.dumps(payload).encode()), Kind.MODEL).record == WHOLE
    bare = Slots(on_disk(b"{}"), Kind.MODEL).record
    assert (bare.v, bare.good, bare.trial, bare.state) == (1, Slot.FACTORY, None, State.COMMITTED)
    assert (bare.attempts, bare.spent_ns, bare.slots, bare.words) == (0, 0, {}, "")
    assert (bare.bootable_from, bare.boots, bare.left) == (0, [], {})


def test_what_a_later_release_added_outlasts_whatever_an_earlier_one_writes() -> None:
    """A vehicle goes back to an older runtime, and on to the newer one again."""
    payload = json.loads(VECTOR["payload"]) | {"mood": {"is": ["sunny"]}}
    payload["slots"]["a"]["colour"] = "red"
    payload["slots"]["b"]["colour"] = "blue"
    disk = on_disk(json.dumps(payload).encode())
    for words in ("once", "and again"):
        slots = Slots(disk, Kind.MODEL)
        slots.write(msgspec.structs.replace(slots.record, words=words))
    assert json.loads(disk_payload(disk)) == payload | {"words": "and again"}
    others = {Slot.A: Installed("c" * 64, 6, "another"), Slot.B: slots.record.slots[Slot.B]}
    slots.write(msgspec.structs.replace(slots.record, slots=others))
    written = json.loads(disk_payload(disk))
    assert ("colour" in written["slots"]["a"], written["slots"]["b"]["colour"]) == (False, "blue")
    assert written["mood"] == {"is": ["sunny"]}


def test_a_record_is_written_also_where_what_a_later_release_added_leaves_no_room_for_it() -> None:
    disk = on_disk(json.dumps(json.loads(VECTOR["payload"]) | {"mood": "x" * 3_000}).encode())
    slots = Slots(disk, Kind.MODEL)
    slots.write(msgspec.structs.replace(slots.record, words="\U0001f697" * 400))
    assert Slots(disk, Kind.MODEL).record.words == "\U0001f697" * 400


@pytest.mark.parametrize(
    "words", ["x" * 100_000, "\x00" * 5_000, "\U0001f697" * 5_000, "\udcff\x1b[2J\n", '"\\' * 5_000]
)
def test_whatever_a_trial_ends_with_its_end_is_recorded(words: str) -> None:
    disk = on_disk(VECTOR["earlier"].encode())
    slots = Slots(disk, Kind.MODEL)
    Trial(slots, Floors(disk), Denied(disk), Kind.MODEL).handle(Event.FAILED, words)
    record = Slots(disk, Kind.MODEL).record
    assert record.state is State.ROLLED_BACK
    assert record.words.isprintable()
    assert 0 < len(record.words) <= 400


def test_whoever_empties_a_slot_under_trial_ends_its_trial() -> None:
    disk = on_disk(VECTOR["earlier"].encode())
    Slots(disk, Kind.MODEL).empty(Slot.B)
    record = Slots(disk, Kind.MODEL).record
    assert (record.trial, record.state, set(record.slots)) == (None, State.INCONCLUSIVE, {Slot.A})
    assert Trial(Slots(disk, Kind.MODEL), Floors(disk), Denied(disk), Kind.MODEL).begin()[1] is None
