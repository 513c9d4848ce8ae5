"""Whoever has the release before its turn tells nothing of it: neither against it, nor as a control."""

from __future__ import annotations

from pathlib import Path

import pytest

from receiver import admission
from receiver.rollouts.approval import RolloutRefused
from receiver.rollouts.rules import Rules
from tests.ota.fleet import HARDWARE, Fleet
from tests.receiver.rollouts.rig import CARS, Rig, a_rig, digest_of
from tests.receiver.rollouts.test_desk import begun, releases
from tests.receiver.rollouts.test_vouching import says

HALF = Rules(waves=(50.0, 100.0), first_percent=50.0, fine=0.01, bad=0.9, let_through=0.2, soak_s=3600.0,
             silence_s=7200.0)  # fmt: skip


async def all_are_there(rig: Rig) -> None:
    rig.clock.advance(rig.clock.boot_ns() + 1)
    await rig.store.transact(admission.mark_seen, dict.fromkeys(CARS, rig.clock.wall_ns()))
    await rig.desk.settle()


async def test_who_has_the_release_isnt_part_of_its_rollout(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        release, turn = await begun(rig, HALF)
        for vehicle in turn[:5]:
            await rig.report(vehicle, release)
        await rig.stop("cancel")
        await rig.start(release, "r2", HALF)
        assert sorted(await rig.turn("r2")) == sorted(turn[5:])
        await rig.stop("cancel", "r2")
        for vehicle in turn[5:]:
            await rig.report(vehicle, release)
        with pytest.raises(RolloutRefused, match="none that lack"):
            await rig.start(release, "r3", HALF)


async def test_who_has_it_by_its_turn_is_listed_and_isnt_silent(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        release = releases(rig)[1]
        await rig.start(release, rules=HALF)
        turn = (await rig.turn())[:5]
        for vehicle in turn[:2]:
            await rig.report(vehicle, release)
        await rig.approve()
        assert sorted(rig.listed()) == sorted(turn)
        its = (await rig.line()).strata[0]
        assert (its.undecided, its.exposed) == (2, 2)
        await all_are_there(rig)
        for vehicle in turn[2:]:
            await rig.report(vehicle, release)
        await rig.hours(3)
        line = await rig.line()
        its = line.strata[0]
        assert (line.step, its.committed, its.undecided, its.silent, its.failed) == (1, 3, 2, 0, 0)


async def test_who_keeps_it_by_its_newest_manifest_isnt_silent(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        release, turn = await begun(rig)
        await all_are_there(rig)
        rig.cars[turn[0]].keeps(release, digest_of(release))
        await rig.report(turn[0], releases(rig)[0], "refused")
        await rig.hours(3)
        its = (await rig.line()).strata[0]
        assert (its.undecided, its.silent) == (1, 1)


async def test_who_has_it_is_no_control(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        for vehicle in CARS:
            await says(rig, vehicle, HARDWARE)
        release, turn = await begun(rig)
        await rig.sees(turn[4], 0.9)
        await rig.report(turn[4], release)
        await rig.sees(turn[4], 0.9)
        await rig.report(turn[0], release)
        await rig.sees(turn[0], 0.9)
        await rig.desk.settle()
        assert (await rig.line()).pairs == 0
        await rig.sees(turn[5], 0.9)
        await rig.sees(turn[0], 0.9)
        await rig.desk.settle()
        assert (await rig.line()).pairs == 1
