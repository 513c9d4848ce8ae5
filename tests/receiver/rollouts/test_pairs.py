"""What a release is judged by was seen under it, whenever it arrives."""

from __future__ import annotations

from pathlib import Path

from telemetry.records import ClockAnchor, Lane
from tests.ota.fleet import DAY_NS, Fleet
from tests.receiver.fleet import EPOCH
from tests.receiver.rollouts.rig import HOUR_NS, Rig, a_rig
from tests.receiver.rollouts.test_desk import begun


async def kept_beside_a_control(rig: Rig) -> str:
    """Who keeps the release since an hour. One that hasn't had it tells of quality."""
    release, turn = await begun(rig)
    await rig.sees(turn[5], 0.9)
    await rig.report(turn[0], release)
    rig.clock.advance(rig.clock.boot_ns() + HOUR_NS)
    return turn[0]


async def pairs_of(rig: Rig) -> int:
    await rig.desk.settle()
    return (await rig.line()).pairs


async def test_what_waited_in_the_spool_since_before_the_release_is_no_word_of_it(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        treated = await kept_beside_a_control(rig)
        await rig.sees(treated, 0.9, ago_ns=7 * DAY_NS)
        assert await pairs_of(rig) == 0
        await rig.sees(treated, 0.0)
        assert await pairs_of(rig) == 1
        assert (await rig.line()).quality > 1.0, "that it saw worse is what counted"


async def test_a_clock_that_was_ahead_makes_nothing_of_before_a_word_of_the_release(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        treated = await kept_beside_a_control(rig)
        epochs = {lane.name: EPOCH.hex() for lane in Lane}
        now = rig.clock.boot_ns(), rig.clock.wall_ns()
        await rig.tell(treated, ClockAnchor("one boot", *now, "unproven", 0, epochs))
        await rig.sees(treated, 0.9, ago_ns=2 * HOUR_NS, wrong_ns=DAY_NS)
        assert await pairs_of(rig) == 0
        await rig.sees(treated, 0.9, wrong_ns=-DAY_NS)
        assert await pairs_of(rig) == 1
