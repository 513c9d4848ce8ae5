"""A receiver that is killed between any two of its steps goes on where it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import select

from receiver.rollouts import books
from receiver.rollouts.desk import RolloutDesk
from receiver.rollouts.listing import Lister
from receiver.store import FILE
from receiver.tables import rollout, rollout_vehicle
from tests.ota.fleet import Fleet
from tests.receiver.rollouts.rig import HOUR_NS, Rig, Unplugged, a_lister, a_rig
from tests.receiver.rollouts.test_desk import releases

ENDLESS: Final = 10_000


class Killed(BaseException):
    """No code of ours may catch it."""


class Life:
    """So many steps of the receiver, then none: a step is a transaction, or what the director signs in one go."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def take(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1


class MortalStore(Unplugged):
    def __init__(self, url: str, life: Life) -> None:
        super().__init__(url)
        self._life = life

    async def transact(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._life.take()
        done = await super().transact(act, *args, **kwargs)
        self._life.take()
        return done


class MortalLister(Lister):
    """Killed between two vehicles as well."""

    life: Life

    def _sign(self, wanted: Any) -> None:
        for vehicle, targets in wanted.items():
            self.life.take()
            super()._sign({vehicle: targets})


async def the_end(rig: Rig) -> tuple[object, object, object]:
    """All that was decided, and what the director says."""
    columns = (rollout_vehicle.c.vehicle, rollout_vehicle.c.before, rollout_vehicle.c.listed, rollout_vehicle.c.outcome)

    def rows(connection: Any) -> tuple[object, object]:
        state = connection.execute(select(rollout.c.state, rollout.c.step, rollout.c.words)).all()
        vehicles = connection.execute(select(*columns).order_by(rollout_vehicle.c.vehicle)).all()
        return [tuple(row) for row in state], [tuple(row) for row in vehicles]

    return *await rig.store.transact(rows), rig.listed()


class Hasty(RolloutDesk):
    """A desk with a planted fault: it notes what the director is still to say."""

    async def _list(self) -> bool:
        turns = await self._due()
        known, _ = self._director().before(turns)
        await self._store.transact(books.remember, known, self._clock.wall_ns())
        await self._store.transact(books.listed, known, self._clock.wall_ns())
        self._director().act(known)
        return bool(turns)


async def a_life(folder: Path, published: Fleet, steps: int, is_bad: bool, kind: type[RolloutDesk]) -> object:
    """Approved, killed after so many steps, reported, killed perhaps, and at its end."""
    async with a_rig(folder, published) as rig:
        rig.kind = kind
        old, manifest, _ = releases(rig)
        for vehicle in ("car-00", "car-01"):
            rig.fleet.assign(old, vehicle=vehicle)
        await rig.start(manifest)
        for who in ("anna", "ben"):
            await rig.signed("approve", who)
        life = Life(steps)
        await killed_and_whole(rig, life)
        for vehicle in (await rig.turn())[:2]:
            await rig.report(vehicle, manifest, "rolled_back" if is_bad else "committed")
        rig.clock.advance(rig.clock.boot_ns() + 2 * HOUR_NS)
        await killed_and_whole(rig, life)
        return await the_end(rig)


async def killed_and_whole(rig: Rig, life: Life) -> None:
    lister = a_lister(rig.fleet, MortalLister)
    assert isinstance(lister, MortalLister)
    lister.life, rig.lister = life, lister
    mortal = MortalStore(f"sqlite:///{rig.folder / 'state' / FILE}", life)
    with contextlib.suppress(Killed):
        await rig.reopened(mortal).settle()
    await mortal.close()
    lister.life = Life(ENDLESS)
    await rig.reopened(rig.store).settle()


async def differing(tmp_path: Path, published: Fleet, kills: range, is_bad: bool, kind: type[RolloutDesk]) -> list[int]:
    """The kills after which the end is another than without any."""
    lives = {steps: await a_life(tmp_path / str(steps), published, steps, is_bad, kind) for steps in (ENDLESS, *kills)}
    return [steps for steps in kills if lives[steps] != lives[ENDLESS]]


async def test_a_kill_between_two_steps_changes_nothing_of_what_comes(tmp_path: Path, published: Fleet) -> None:
    assert await differing(tmp_path, published, range(17, 18), True, RolloutDesk) == []


async def test_a_report_that_comes_before_the_listing_is_noted_isnt_lost(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        manifest = releases(rig)[1]
        await rig.start(manifest)
        for who in ("anna", "ben"):
            await rig.signed("approve", who)
        known, _ = rig.lister.before(await rig.store.transact(books.turns, 1, rig.clock.wall_ns()))
        await rig.store.transact(books.remember, known, rig.clock.wall_ns())
        rig.lister.act(known)
        await rig.report(known[0].vehicle, manifest)
        await rig.reopened(rig.store).settle()
        its = (await rig.line()).strata[0]
        assert (its.listed, its.committed) == (2, 1)


@pytest.mark.soak
@pytest.mark.parametrize("is_bad", [False, True])
async def test_a_kill_between_any_two_steps_changes_nothing_of_what_comes(
    tmp_path: Path, published: Fleet, is_bad: bool
) -> None:
    assert await differing(tmp_path, published, range(75), is_bad, RolloutDesk) == []


@pytest.mark.soak
async def test_a_listing_that_is_noted_before_it_is_signed_is_noticed(tmp_path: Path, published: Fleet) -> None:
    assert await differing(tmp_path, published, range(25), False, Hasty) != []
