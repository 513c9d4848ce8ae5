"""The desk by itself: it begins with what it finds, looks again after a while, and waits for a database that fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pytest
from sqlalchemy import Connection

from ecu.clock import SECOND_NS
from receiver.learning.books import REPLACED, WAITING
from receiver.store import Store, StoreError
from receiver.tables import learning_update
from tests.receiver.fleet import until
from tests.receiver.learning.benches import FILE, package_in
from tests.receiver.learning.rig import Rig, a_rig
from tests.receiver.learning.test_jobs import nothing_free

P = ParamSpec("P")
T = TypeVar("T")


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[asyncio.Future[None]]:
    task = asyncio.ensure_future(rig.desk.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_start_goes_on_with_all_that_it_finds(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        for name in ("car-1", "car-2", "car-3"):
            await rig.learned(plan, name, 1.0)
        async with running(rig):
            await until(lambda: rig.counters.learning_candidates == 1)
        for name in ("car-1", "car-2", "car-3"):
            await rig.learned(plan, name, 1.0, seq=2)
        while await rig.desk.judge_some():
            pass
        rig.restart()
        async with running(rig):
            await until(lambda: rig.counters.learning_candidates == 1)
        assert [one.outcome for one in (await rig.plan_status()).attempts] == ["passed", "passed"]


async def test_what_is_held_up_is_begun_again_after_a_while(tmp_path: Path) -> None:
    async with a_rig(tmp_path, buffer=1) as rig:
        plan = await rig.begin()
        (rig.folder / "live" / FILE).unlink()
        await rig.learned(plan, "car-1", 1.0)
        async with running(rig):
            await until(lambda: rig.counters.learning_held_up == 1)
            package_in(rig.folder / "live")
            rig.clock.advance(600 * SECOND_NS)
            await until(lambda: rig.counters.learning_candidates == 1)


@pytest.mark.parametrize("seqs", list(itertools.permutations([1, 2, 3])))
@pytest.mark.parametrize("at_once", [True, False])
async def test_of_a_vehicles_updates_the_one_it_made_last_waits_in_whatever_order_they_came(
    tmp_path: Path, seqs: tuple[int, ...], at_once: bool
) -> None:
    async with a_rig(tmp_path, buffer=2) as rig:
        plan = await rig.begin()
        for seq in seqs:
            await rig.learned(plan, "car-1", float(seq), seq=seq)
            if not at_once:
                await rig.settle()
        await rig.settle()
        names = [column.name for column in learning_update.columns]
        rows = [dict(zip(names, row, strict=True)) for row in (await rig.rows("learning_update"))["learning_update"]]
        found = {row["seq"]: (row["attempt"], row["payload"] is None) for row in rows}
        assert found == {1: (REPLACED, True), 2: (REPLACED, True), 3: (WAITING, False)}
        assert (await rig.plan_status()).counts == {"admitted": 3}


class Faltering(Store):
    """Its next transactions fail."""

    def __init__(self, store: Store, failures: int, error: Exception | None = None) -> None:
        self._inner, self._left = store, failures
        self._error = error or StoreError("The store failed: the disk is full.")

    async def transact(self, act: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._left -= 1
        if self._left >= 0:
            raise self._error
        return await self._inner.transact(act, *args, **kwargs)


async def test_a_database_that_fails_is_waited_for(tmp_path: Path) -> None:
    async with a_rig(tmp_path, buffer=1) as rig:
        plan = await rig.begin()
        await rig.learned(plan, "car-1", 1.0)
        rig.store = Faltering(rig.store, 2)
        rig.restart()
        async with running(rig):
            await until(lambda: rig.counters.store_failures == 2)
            rig.clock.advance(5 * SECOND_NS)
            await until(lambda: rig.counters.learning_candidates == 1)


async def test_a_bug_of_learning_holds_learning_off_and_doesnt_end_the_receiver(tmp_path: Path) -> None:
    async with a_rig(tmp_path, buffer=1) as rig:
        plan = await rig.begin()
        await rig.learned(plan, "car-1", 1.0)
        rig.store = Faltering(rig.store, 2, ZeroDivisionError("by nothing"))
        rig.restart()
        async with running(rig) as desk:
            await until(lambda: rig.counters.learning_faults == 2 or desk.done())
            assert not desk.done()
            rig.clock.advance(5 * SECOND_NS)
            await until(lambda: rig.counters.learning_candidates == 1)


async def test_a_computer_that_cant_begin_the_work_holds_up_that_plan_alone(tmp_path: Path) -> None:
    async with a_rig(tmp_path, buffer=1) as rig:
        plan = await rig.begin()
        await rig.learned(plan, "car-1", 1.0)
        rig.executor, make = nothing_free, rig.executor
        rig.restart()
        async with running(rig) as desk:
            await until(lambda: rig.counters.learning_held_up == 1 or desk.done())
            assert not desk.done()
            (status,) = (await rig.status()).plans
            assert "Too many open files" in status.held_up
        rig.executor = make
        rig.restart()
        async with running(rig):
            await until(lambda: rig.counters.learning_candidates == 1)
