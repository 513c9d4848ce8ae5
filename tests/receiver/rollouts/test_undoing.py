"""What a rollout that is over leaves behind: nobody is listed for it, and whoever had it isn't offered less."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ota.manifest import BundleManifest
from receiver.rollouts import books
from receiver.rollouts.answers import StopRequest
from tests.ota.fleet import Fleet
from tests.receiver.rollouts.rig import CARS, RULES, Rig, a_rig, digest_of
from tests.receiver.rollouts.test_desk import begun, releases


async def signed_and_killed(rig: Rig) -> list[str]:
    """The director lists two, and the receiver dies before it has noted that."""
    await rig.start(releases(rig)[1])
    for who in ("anna", "ben"):
        await rig.signed("approve", who)
    await rig.store.transact(books.step_all, rig.clock.wall_ns())
    known, _ = rig.lister.before(await rig.store.transact(books.turns, 100, rig.clock.wall_ns()))
    await rig.store.transact(books.remember, known, rig.clock.wall_ns())
    rig.lister.act(known)
    rig.reopened(rig.store)
    return [turn.vehicle for turn in known]


@contextlib.contextmanager
def without_keys(rig: Rig) -> Iterator[None]:
    """Nothing can be listed meanwhile."""
    keys, away = rig.fleet.folder / "keys", rig.fleet.folder / "keys-away"
    keys.rename(away)
    yield
    away.rename(keys)


async def with_the_old_release(rig: Rig) -> tuple[BundleManifest, str]:
    """All have it, and the new one is begun; whose turn came first."""
    old = releases(rig)[0]
    for vehicle in CARS:
        rig.fleet.assign(old, vehicle=vehicle)
    _, (first, *_) = await begun(rig)
    return old, first


def fetches(rig: Rig, vehicle: str) -> None:
    rig.desk.served(vehicle, f"targets/model/{digest_of(releases(rig)[1])}.drive-2.0.json")


async def test_a_listing_that_was_never_noted_is_undone_with_its_rollout(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        two = await signed_and_killed(rig)
        await rig.desk.stop("r1", StopRequest("cancel", "carl"))
        assert (await rig.line()).waits_for_director == 2
        await rig.desk.settle()
        assert rig.listed() == dict.fromkeys(two, ())
        assert (await rig.line()).waits_for_director == 0


async def test_a_halt_by_those_whose_listing_was_never_noted_undoes_it(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        two = await signed_and_killed(rig)
        for vehicle in two:
            await rig.report(vehicle, releases(rig)[1], "rolled_back")
        await rig.desk.settle()
        assert (await rig.line()).state == "halted"
        assert rig.listed() == dict.fromkeys(two, ())


async def test_whoever_is_owed_an_end_has_no_turn_before_and_gets_back_what_was_before_both(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        old, first = await with_the_old_release(rig)
        with without_keys(rig):
            await rig.desk.stop("r1", StopRequest("cancel", "carl"))
        rules = RULES.__class__(waves=(100.0,), first_percent=100.0, soak_s=3600.0, silence_s=7200.0)
        await rig.start(releases(rig)[2], "r2", rules)
        await rig.approve("r2")
        assert rig.listed()[first] == (releases(rig)[2].target,)
        await rig.stop("cancel", "r2")
        assert set(rig.listed().values()) == {(old.target,)}


async def test_what_is_owed_and_cant_be_done_keeps_nobody_else_from_a_turn(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        _, first = await with_the_old_release(rig)
        stamp = rig.fleet.repo / "director" / "vehicles" / first / "timestamp.json"
        whole = stamp.read_bytes()
        stamp.write_bytes(b"{}")
        await rig.stop("cancel")
        await rig.start(releases(rig)[2], "r2", RULES.__class__(waves=(100.0,), first_percent=100.0))
        await rig.approve("r2")
        stamp.write_bytes(whole)
        listed = rig.listed()
        assert {vehicle for vehicle, targets in listed.items() if targets == (releases(rig)[2].target,)} == {*CARS} - {
            first
        }


async def test_who_fetches_it_between_the_end_and_its_undoing_had_it(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        _, first = await with_the_old_release(rig)
        with without_keys(rig):
            await rig.desk.stop("r1", StopRequest("cancel", "carl"))
            fetches(rig, first)
            await rig.desk._go_round()
        await rig.hours(1)
        assert rig.listed()[first] == (), "who may run it sees the one before as a rollback"
        await rig.start(releases(rig)[2], "back", of="r1")
        assert await rig.turn("back") == [first]


async def test_who_fetches_or_keeps_it_after_the_undoing_isnt_offered_less(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        old, first = await with_the_old_release(rig)
        second = (await rig.turn())[1]
        await rig.stop("cancel")
        assert set(rig.listed().values()) == {(old.target,)}
        fetches(rig, first)
        await rig.report(second, releases(rig)[1])
        await rig.hours(0)
        assert rig.listed()[first] == rig.listed()[second] == ()
        assert await rig.store.transact(books.turns, 9, rig.clock.wall_ns()) == []
        await rig.start(releases(rig)[2], "back", of="r1")
        assert sorted(await rig.turn("back")) == sorted([first, second])


async def test_what_the_desk_assigns_after_the_undoing_stays(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        _, first = await with_the_old_release(rig)
        await rig.stop("cancel")
        newest = releases(rig)[2]
        rig.fleet.assign(newest, vehicle=first)
        fetches(rig, first)
        await rig.hours(0)
        assert rig.listed()[first] == (newest.target,)


async def test_a_turn_that_a_done_rollout_owed_is_none_once_a_later_one_has_come(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        quick = RULES.__class__(waves=(100.0,), first_percent=100.0, soak_s=3600.0, silence_s=7200.0)
        stamp = rig.fleet.repo / "director" / "vehicles" / CARS[0] / "timestamp.json"
        for vehicle in CARS:
            rig.fleet.assign(releases(rig)[0], vehicle=vehicle)
        whole = stamp.read_bytes()
        stamp.write_bytes(b"{}")
        await rig.start(releases(rig)[1], "r1", quick)
        await rig.approve()
        for vehicle in CARS[1:]:
            await rig.report(vehicle, releases(rig)[1])
        await rig.hours(24 * 15)
        assert (await rig.line()).state == "done"
        stamp.write_bytes(whole)
        await rig.start(releases(rig)[2], "r2", quick)
        await rig.approve("r2")
        await rig.hours(1)
        assert set(rig.listed().values()) == {(releases(rig)[2].target,)}
