"""What one vehicle says can't keep a halt from the others."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from receiver.rollouts import reports
from receiver.rollouts.reports import Told, Waiting
from tests.ota.fleet import Fleet
from tests.receiver.rollouts.rig import a_rig
from tests.receiver.rollouts.test_desk import begun

NO_SCORES = [(1e308, 1e308), (math.inf, -math.inf), (math.nan,), (-0.5,), (1.5,)]


async def test_what_is_no_score_says_nothing_and_keeps_no_halt_from_others(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        release, turn = await begun(rig)
        await rig.report(turn[0], release)
        await rig.sees(turn[4], 0.9)
        for scores in NO_SCORES:
            await rig.sees(turn[0], *scores)
        await rig.report(turn[1], release, "rolled_back")
        await rig.desk.settle()
        line = await rig.line()
        assert (line.strata[0].failed, line.pairs) == (1, 0)


async def test_a_fault_in_one_block_costs_that_block_alone_and_is_counted(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        release, turn = await begun(rig)
        for vehicle in turn[:2]:
            await rig.report(vehicle, release, "rolled_back")
        waiting = await rig.store.transact(reports.page, 9)
        told = reports.read(waiting)
        broken = replace(told[0], reports=(*told[0].reports, None))  # type: ignore[arg-type]
        taken = await rig.store.transact(reports.take, waiting, [broken, told[1]], 1)
        assert (taken.news, taken.faults) == (1, 1)
        assert (await rig.line()).strata[0].failed == 1
        assert await rig.store.transact(reports.page, 9) == []


def test_a_block_that_reading_fails_on_is_told_from_one_that_says_nothing() -> None:
    nothing: bytes = None  # type: ignore[assignment]
    assert reports.read([Waiting(1, "car-00", nothing, 7), Waiting(2, "car-01", b"", 7)]) == [
        Told("car-00", 7, is_read=False),
        Told("car-01", 7),
    ]
