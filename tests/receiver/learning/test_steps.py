"""A kill between any two steps, or within one: after a restart comes what would have come without it, once."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest
from sqlalchemy import Connection

from ecu.disk import RealDisk
from receiver.store import Store
from telemetry.federated.plan import Plan
from telemetry.records import Health, encode_event
from tests.receiver.learning.rig import Car, Rig, a_rig, told, update_of

P = ParamSpec("P")
T = TypeVar("T")
TABLES = (
    *("learning_queue", "learning_line", "learning_base", "learning_update", "learning_attempt", "learning_count"),
    "audit",
)


class Killed(BaseException):
    """Nobody catches it."""


class MortalStore(Store):
    """The process ends at the n-th transaction from now: before it, at its end but before its commit, or after."""

    def __init__(self, store: Store, at: int, where: str) -> None:
        self._inner, self._left, self._where = store, at, where

    async def transact(self, act: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._left -= 1
        if self._left >= 0:
            return await self._inner.transact(act, *args, **kwargs)
        if self._where == "before":
            raise Killed
        if self._where == "within":
            await self._inner.transact(_cut(act), *args, **kwargs)
        await self._inner.transact(act, *args, **kwargs)
        raise Killed


def _cut(act: Callable[Concatenate[Connection, P], T]) -> Callable[Concatenate[Connection, P], T]:
    def cut(connection: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
        act(connection, *args, **kwargs)
        raise Killed

    return cut


async def a_story(rig: Rig) -> Plan:
    """Two buffers, one that passes and one that fails; what is refused is among them."""
    plan = await rig.begin()
    for car, first in (("car-1", 1.0), ("car-2", 2.0), ("car-3", 3.0)):
        await rig.learned(plan, car, first)
    car_1 = await rig.car("car-1")
    await rig.receive("car-1", encode_event(Health("no", "update")), told(update_of(plan, car_1.keys.sign, 1.0)))
    return plan


@dataclass(frozen=True, slots=True)
class Begun:
    """A receiver that was told the story and has done nothing of it yet, as often as it is wanted."""

    folder: Path
    plan: Plan
    cars: dict[str, Car]

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        # Always in one place: what it keeps speaks of where it lies.
        place = self.folder / "rig"
        shutil.rmtree(place)
        shutil.copytree(self.folder / "begun", place)
        async with a_rig(place) as rig:
            rig.cars = {name: replace(car) for name, car in self.cars.items()}
            yield rig


async def begun(folder: Path) -> Begun:
    async with a_rig(folder / "rig") as rig:
        plan = await a_story(rig)
    shutil.copytree(folder / "rig", folder / "begun")
    return Begun(folder, plan, rig.cars)


async def second_half(rig: Rig, plan: Plan) -> None:
    for car, first in (("car-1", -9.0), ("car-2", -9.0), ("car-4", -9.0)):
        await rig.learned(plan, car, first, seq=2)


async def ends(rig: Rig, plan: Plan) -> dict[str, Any]:
    """All that there is in the end. Digests of the audit chain and times stand still here, and belong to it."""
    await rig.settle()
    await second_half(rig, plan)
    await rig.settle()
    files = {path.relative_to(rig.folder): path.read_bytes() for path in rig.candidates.rglob("*") if path.is_file()}
    tables = await rig.rows(*TABLES)
    return {name: [_comparable(row, rig) for row in rows] for name, rows in tables.items()} | {"files": files}


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["files"] == other["files"]
    for table in TABLES:
        assert one[table] == other[table], table


def _comparable(row: tuple[object, ...], rig: Rig) -> tuple[object, ...]:
    """Without what differs from rig to rig: folders, certificates' serials, and the audit's digests over these."""
    if "paired" in row:
        return ()
    kept = (cell for cell in row if not isinstance(cell, bytes) or len(cell) != 32)
    return tuple(cell.replace(str(rig.folder), "") if isinstance(cell, str) else cell for cell in kept)


@pytest.mark.parametrize("apart", [3, pytest.param(1, marks=pytest.mark.soak)])
async def test_a_kill_at_any_transaction_changes_nothing_of_what_comes(tmp_path: Path, apart: int) -> None:
    """Three apart, each is killed in one of the three ways; one apart, in all of them."""
    story = await begun(tmp_path)
    async with story.rig() as rig:
        expected = await ends(rig, story.plan)
    assert ["passed" in row for row in expected["learning_attempt"]] == [True, False]
    assert expected["learning_queue"] == []
    kills = 0
    for first, where in enumerate(("before", "within", "after")):
        for at in range(first % apart, 1000, apart):
            async with story.rig() as rig:
                if not await killed(rig, at, where):
                    break
                kills += 1
                rig.restart()
                same(await ends(rig, story.plan), expected)
    assert kills > 3 * 15 // apart


async def killed(rig: Rig, at: int, where: str) -> bool:
    """Whether there was such a transaction, until nothing was left to do."""
    whole = rig.store
    rig.store = MortalStore(whole, at, where)
    rig.restart()
    try:
        with suppress(Killed):
            await rig.settle()
            return False
        return True
    finally:
        rig.store = whole


class MortalDisk(RealDisk):
    """The process ends at the n-th change from now, before it."""

    left = 0

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def make_folder(self, path: str) -> None:
        self._live()
        super().make_folder(path)

    def create(self, path: str, size: int = 0) -> None:
        self._live()
        super().create(path, size)

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        self._live()
        super().write_at(path, offset, data)

    def sync(self, path: str) -> None:
        self._live()
        super().sync(path)

    def rename(self, old: str, new: str) -> None:
        self._live()
        super().rename(old, new)

    def sync_folder(self, folder: str) -> None:
        self._live()
        super().sync_folder(folder)


@pytest.mark.parametrize("apart", [2, pytest.param(1, marks=pytest.mark.soak)])
async def test_a_kill_while_a_candidate_is_put_into_its_folder_changes_nothing_either(
    tmp_path: Path, apart: int
) -> None:
    story = await begun(tmp_path)
    async with story.rig() as rig:
        expected = await ends(rig, story.plan)
    for at in range(0, 1000, apart):
        async with story.rig() as rig:
            rig.disk = mortal = MortalDisk(rig.folder)
            mortal.left = at
            rig.restart()
            with suppress(Killed):
                await rig.settle()
                break
            rig.disk = RealDisk(rig.folder)
            rig.restart()
            same(await ends(rig, story.plan), expected)
    assert at > 12
