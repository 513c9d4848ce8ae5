"""The object store in an event loop: nobody waits for flash who needn't, and what was begun is finished."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ecu.crashdisk import CrashDisk
from telemetry.objects.counts import Dropped
from telemetry.objects.errors import NotKept
from telemetry.objects.keeper import PUTS_AT_ONCE, ObjectKeeper
from telemetry.records import Purpose
from tests.telemetry.objects.rig import Rig, content, picture


async def test_whoever_waits_hears_of_a_new_object_and_reads_it() -> None:
    keeper = ObjectKeeper(Rig().store)
    assert keeper.oldest() is None
    waiting = asyncio.create_task(keeper.wait())
    await asyncio.sleep(0)
    ref = await keeper.put(picture(1), Purpose.PERCEPTION)
    await waiting
    assert keeper.oldest() == ref
    assert await keeper.read(ref, 0, ref.bytes) == content(1)
    assert await keeper.stored(ref)
    assert keeper.oldest() is None
    await keeper.close()
    await keeper.close()
    with pytest.raises(RuntimeError, match="closed"):
        await keeper.put(picture(1), Purpose.PERCEPTION)


async def test_more_pictures_than_flash_takes_are_dropped_and_counted() -> None:
    rig = Rig()
    keeper, go = ObjectKeeper(rig.store), threading.Event()
    asyncio.get_running_loop().run_in_executor(keeper._flash, go.wait)
    puts = [asyncio.create_task(keeper.put(picture(n), Purpose.PERCEPTION)) for n in range(PUTS_AT_ONCE + 3)]
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.gather(*puts, return_exceptions=True)
    refusals = [result for result in results if isinstance(result, NotKept)]
    assert [refusal.reason for refusal in refusals] == [Dropped.QUEUE_FULL] * 3
    counts = rig.counts()
    assert (counts.offered, counts.kept, counts.dropped) == (PUTS_AT_ONCE + 3, PUTS_AT_ONCE, {"queue_full": 3})
    await keeper.close()


async def test_what_was_taken_or_refused_makes_room_for_the_next() -> None:
    rig = Rig()
    keeper = ObjectKeeper(rig.store)
    for number in range(PUTS_AT_ONCE):
        await keeper.put(picture(number), Purpose.PERCEPTION)
        with pytest.raises(NotKept):
            await keeper.put(picture(number, size=0), Purpose.PERCEPTION)
    assert await keeper.put(picture(99), Purpose.PERCEPTION)
    await keeper.close()


async def test_who_waits_after_an_object_came_waits_for_the_next() -> None:
    # Mutation: an event that stays set lets an idle uplink spin, and nothing else run.
    keeper = ObjectKeeper(Rig().store)
    await keeper.put(picture(1), Purpose.PERCEPTION)
    waiting = asyncio.create_task(keeper.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    await keeper.put(picture(2), Purpose.PERCEPTION)
    await waiting
    await keeper.close()


async def test_a_put_that_nobody_waits_for_any_more_is_finished_and_told() -> None:
    rig = Rig()
    keeper, go = ObjectKeeper(rig.store), threading.Event()
    asyncio.get_running_loop().run_in_executor(keeper._flash, go.wait)
    waiting, putting = (
        asyncio.create_task(keeper.wait()),
        asyncio.create_task(keeper.put(picture(1), Purpose.PERCEPTION)),
    )
    await asyncio.sleep(0)
    putting.cancel()
    go.set()
    await waiting
    assert rig.counts().kept == 1
    assert await keeper.erase(Purpose.PERCEPTION) == 1
    assert keeper.counts().erased == 1
    await keeper.close()


async def test_an_erasure_that_nobody_waits_for_any_more_happens_all_the_same() -> None:
    rig = Rig()
    keeper, go = ObjectKeeper(rig.store), threading.Event()
    await keeper.put(picture(1), Purpose.PERCEPTION)
    asyncio.get_running_loop().run_in_executor(keeper._flash, go.wait)
    erasing = asyncio.create_task(keeper.erase(Purpose.PERCEPTION))
    await asyncio.sleep(0)
    erasing.cancel()
    await asyncio.wait((erasing,))
    go.set()
    await keeper.close()
    assert rig.counts().erased == 1


async def test_pictures_that_wait_together_share_one_sync_of_their_names() -> None:
    rig = Rig(disk := CrashDisk())
    await (keeper := ObjectKeeper(rig.store)).put(picture(0), Purpose.PERCEPTION)
    go, before = threading.Event(), len(disk.calls)
    asyncio.get_running_loop().run_in_executor(keeper._flash, go.wait)
    puts = [asyncio.create_task(keeper.put(picture(n), Purpose.PERCEPTION)) for n in range(1, 1 + PUTS_AT_ONCE)]
    await asyncio.sleep(0)
    go.set()
    refs = await asyncio.gather(*puts)
    assert [await keeper.read(ref, 0, ref.bytes) for ref in refs] == [content(n) for n in range(1, 1 + PUTS_AT_ONCE)]
    acts = [call.act for call in disk.calls[before:]]
    assert (acts.count("sync"), acts.count("sync_folder")) == (PUTS_AT_ONCE, 1)
    await keeper.close()
