"""What goes on without a rollout: assignments are renewed, what ends is said, and a release that is done is watched."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ota.kinds import Kind
from receiver.rollouts.answers import RoleLine
from receiver.rollouts.books import WATCHED_NS
from tests.ota.fleet import DAY_NS, Fleet
from tests.receiver.rollouts.rig import RULES, Rig, a_rig
from tests.receiver.rollouts.test_desk import begun, releases

ALL_AT_ONCE = msgspec.structs.replace(RULES, waves=(100.0,), first_percent=100.0)


async def done(rig: Rig) -> list[str]:
    """All ten have it, and keep it."""
    release, turn = await begun(rig, ALL_AT_ONCE)
    for vehicle in turn:
        await rig.report(vehicle, release)
    await rig.hours(1.1)
    assert (await rig.line()).state == "done"
    return turn


async def test_a_late_wave_of_failures_is_an_alarm_once_and_nothing_is_done_about_it(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        turn = await done(rig)
        before = rig.listed()
        for vehicle in turn[:4]:
            rig.cars[vehicle].holds.clear()
            await rig.report(vehicle, releases(rig)[1], "rolled_back")
        for _ in range(2):
            await rig.hours(0.1)
        line = await rig.line()
        assert (line.state, line.strata[0].failed) == ("done", 4)
        assert "4 of 10 vehicles failed" in line.alarm
        assert (await rig.events()).count("rollout_alarm") == rig.counters.rollout_alarms == 1
        assert rig.listed() == before


async def test_one_late_failure_is_no_wave_and_after_a_month_nobody_looks(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        turn = await done(rig)
        await rig.report(turn[0], releases(rig)[1], "damaged")
        await rig.hours(0.1)
        line = await rig.line()
        assert (line.alarm, line.strata[0].failed) == ("", 1)
        rig.clock.advance(rig.clock.boot_ns() + WATCHED_NS)
        for vehicle in turn[1:5]:
            await rig.report(vehicle, releases(rig)[1], "rolled_back")
        await rig.hours(0.1)
        assert (await rig.line()).alarm == ""


async def test_who_kept_it_and_lost_it_again_has_failed_also_while_it_goes_on(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        release, turn = await begun(rig)
        await rig.report(turn[0], release)
        await rig.report(turn[0], release, "rolled_back")
        await rig.report(turn[1], release, "rolled_back")
        await rig.report(turn[1], release)  # the first word stays
        await rig.hours(0)
        its = (await rig.line()).strata[0]
        assert (its.committed, its.failed) == (0, 2)


async def test_assignments_are_renewed_without_any_rollout_and_a_damaged_one_keeps_no_other_from_it(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        old = releases(rig)[0]
        for vehicle in ("car-00", "car-01", "car-02"):
            rig.fleet.assign(old, vehicle=vehicle)
        await rig.desk.settle()
        stamp = rig.fleet.repo / "director/vehicles/car-00/timestamp.json"
        stamp.write_bytes(b"{}")
        before = rig.fleet.director.assignment("car-01").expires
        await rig.hours(24 * 4.5)
        for vehicle in ("car-01", "car-02"):
            its = rig.fleet.director.assignment(vehicle)
            assert its.targets == (old.target,)
            assert its.expires > before
        assert rig.counters.assignments_renewed == 2
        assert rig.counters.rollouts_held_up == 1


async def test_renewals_come_in_pages_between_which_others_have_their_turn(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        old = releases(rig)[0]
        for number in range(5):
            rig.fleet.assign(old, vehicle=f"car-0{number}")
        rig.clock.advance(5 * DAY_NS)
        (rig.fleet.repo / "director/vehicles/car-00/timestamp.json").write_bytes(b"{}")
        pages = [rig.lister.renew(1) for _ in range(6)]
        # The damaged one is met once, and those behind it have their turn.
        assert [page.count for page in pages] == [0, 1, 1, 1, 1, 0]
        assert [page.more for page in pages] == [True, True, True, True, False, False]


async def words_of(rig: Rig) -> dict[str, RoleLine]:
    return {line.role: line for line in await rig.desk.repository() if line.words}


async def test_what_the_desk_lets_end_is_said_and_counted_before_it_ends(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        assert await words_of(rig) == {}
        await rig.hours(24 * 5.5)
        said = await words_of(rig)
        assert set(said) == {"snapshot", "timestamp"}
        assert "ends in 36 hours" in said["timestamp"].words
        assert "outrider ota publish" in said["timestamp"].words
        assert rig.counters.repository_ending == 2
        await rig.hours(48)
        assert "has ended" in (await words_of(rig))["timestamp"].words
        at_desk = Fleet(rig.fleet.folder, rig.clock)
        at_desk.publish()
        assert await words_of(rig) == {}
        rig.clock.advance(rig.clock.boot_ns() + 70 * DAY_NS)
        at_desk.publish()
        said = await words_of(rig)
        assert set(said) == set(Kind), "a kind is signed for 90 days, and published for 7"
        assert "--role model --renew" in said["model"].words
