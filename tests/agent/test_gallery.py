"""Pictures on their way to flash: none without consent, none told of before it is durable, none forgotten."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agent.gallery import Gallery
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault, DiskFull
from telemetry.objects import ObjectKeeper
from telemetry.objects.keeper import PUTS_AT_ONCE
from telemetry.records import PictureTaken, Purpose, Record, record_of
from tests.telemetry.objects.rig import Rig, content, objects_in, picture

WITHIN_S = 30.0


class Gated(CrashDisk):
    """Holds whoever writes at the gate while that is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def rename(self, old: str, new: str) -> None:
        assert self.gate.wait(timeout=30)
        super().rename(old, new)


@dataclass
class Shown:
    """A gallery over a store in memory, and the records that it offered."""

    disk: Gated = field(default_factory=Gated)
    may_keep: bool = True
    offered: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rig = Rig(self.disk)
        self.gallery = Gallery(
            "front",
            None,
            ObjectKeeper(self.rig.store),
            None,
            lambda captured_ns: self.may_keep,
            self.private,
            self.offer,
        )

    def private(self, t_ns: int, taken: PictureTaken) -> list[Record]:
        return [record_of(t_ns, taken)]

    def offer(self, records: Iterable[Record]) -> None:
        self.offered += records
        self.disk.mark("offered")

    @property
    def told(self) -> list[PictureTaken]:
        return [record.event for record in self.offered if isinstance(record.event, PictureTaken)]


def bugs_caught() -> list[dict[str, Any]]:
    """What reaches the loop's exception handler from here on, as the daemon's own would hear of it."""
    caught: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: caught.append(context))
    return caught


async def test_a_picture_is_told_of_once_it_is_there_and_as_what_it_is() -> None:
    shown = Shown()
    shown.gallery.take(picture(7))
    await shown.gallery.close(WITHIN_S)
    (record,), (told,) = shown.offered, shown.told
    after = [state.disk for state in shown.disk.after_crash() if "offered" in state.acknowledged]
    assert after
    assert all(len(objects_in(disk)) == 1 for disk in after), "durable before it is told of"
    assert told.sha256 == hashlib.sha256(content(7)).hexdigest()
    assert (told.camera, told.frame_id, told.bytes, told.width, told.height) == ("front", 7, 300, 1280, 720)
    assert (told.covered, told.reason, record.captured_ns) == (1, "hard_brake", 7000)
    assert [ref.purpose for ref in shown.rig.store.kept()] == [record.purpose] == [Purpose.PERCEPTION]


async def test_without_consent_nothing_is_written_or_told_and_it_is_counted() -> None:
    shown = Shown(may_keep=False)
    shown.gallery.take(picture(1))
    await shown.gallery.close(WITHIN_S)
    assert shown.offered == []
    assert objects_in(shown.disk) == []
    status = shown.gallery.status()
    assert (status.denied, status.objects.offered, status.pictures, status.uplink) == (1, 0, None, None)


async def test_what_is_on_its_way_when_its_purpose_is_purged_is_neither_kept_nor_told_of() -> None:
    # Mutation: without looking again once it is durable, a record tells of a picture that is gone.
    shown = Shown()
    shown.disk.gate.clear()
    shown.gallery.take(picture(1))
    await asyncio.sleep(0)
    shown.gallery.take(picture(2))
    erasing = asyncio.create_task(shown.gallery.erase(Purpose.PERCEPTION))
    await asyncio.sleep(0)
    shown.disk.gate.set()
    await erasing
    shown.gallery.take(picture(3))
    await shown.gallery.close(WITHIN_S)
    assert [told.frame_id for told in shown.told] == [3]
    assert shown.rig.counts().kept == 1


async def test_a_purge_of_another_purpose_takes_no_picture() -> None:
    shown = Shown()
    shown.gallery.take(picture(1))
    await shown.gallery.erase(Purpose.DRIVING)
    await shown.gallery.close(WITHIN_S)
    assert [told.frame_id for told in shown.told] == [1]


async def test_what_flash_doesnt_take_is_not_told_of() -> None:
    caught, shown = bugs_caught(), Shown()
    shown.disk.fail(lambda call: call.act == "write_at" and ".obj" in call.path, DiskFull("full"))
    shown.gallery.take(picture(1))
    await shown.gallery.close(WITHIN_S)
    assert shown.offered == []
    assert shown.rig.counts().dropped == {"disk_full": 1}
    assert caught == []


async def test_closing_waits_until_all_that_was_taken_is_durable_and_told() -> None:
    shown = Shown()
    shown.disk.gate.clear()
    for number in range(PUTS_AT_ONCE + 2):
        shown.gallery.take(picture(number))
    closing = asyncio.create_task(shown.gallery.close(WITHIN_S))
    await asyncio.sleep(0)
    assert not closing.done()
    shown.disk.gate.set()
    await closing
    assert [told.frame_id for told in shown.told] == list(range(PUTS_AT_ONCE))
    assert shown.rig.counts().dropped == {"queue_full": 2}


async def test_flash_that_hangs_holds_up_no_end() -> None:
    shown = Shown()
    shown.disk.gate.clear()
    shown.gallery.take(picture(1))
    await shown.gallery.close(within_s=0.01)
    shown.disk.gate.set()
    await shown.gallery.close(WITHIN_S)
    assert shown.offered == [], "the spool may be closed by now"
    assert shown.rig.counts().kept == 1


async def test_a_store_that_cant_be_closed_keeps_nothing_else_from_ending() -> None:
    shown = Shown()
    shown.disk.fail(lambda call: call.path.startswith("books"), DiskFault("worn"))
    await shown.gallery.close(WITHIN_S)


async def test_a_bug_over_a_picture_reaches_whoever_looks_out_for_bugs() -> None:
    class Broken(Shown):
        def private(self, t_ns: int, taken: PictureTaken) -> list[Record]:
            raise IndexError(taken.frame_id)

    caught = bugs_caught()
    shown = Broken()
    shown.gallery.take(picture(1))
    await shown.gallery.close(WITHIN_S)
    # At once, not when somebody collects the garbage.
    assert [(bug["message"], type(bug["exception"])) for bug in caught] == [("keeping a picture", IndexError)]
