"""What becomes of a buffer: only what the judge passed moves a plan's line, and only that becomes a candidate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ecu.clock import SECOND_NS
from receiver.learning import books
from receiver.learning.books import Overtaken
from receiver.learning.judging import judge_blocks
from receiver.learning.lines import LearningRefused, next_version
from receiver.learning.order import NotBegun, vector
from telemetry.federated.line import base_digest
from telemetry.federated.plan import Plan
from tests.receiver.learning.benches import FILE, START, package_in, plan_of
from tests.receiver.learning.rig import Rig, a_rig, moved


async def three_cars(rig: Rig, plan: Plan, *firsts: float, seq: int = 1) -> None:
    for number, first in enumerate(firsts, 1):
        await rig.learned(plan, f"car-{number}", first, 0.5, seq=seq)


async def test_a_full_buffer_that_passes_is_a_candidate_and_the_lines_next_base(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        await three_cars(rig, plan, 1.0, 2.0, 3.0)
        await rig.settle()
        status = await rig.plan_status()
        assert await rig.model() == pytest.approx(moved(START, 2.0, 0.5), abs=0.01)
        assert (status.line.number, status.line.base, status.waits) == (1, base_digest(await rig.model()), [])
        (attempt,) = status.attempts
        assert (attempt.outcome, attempt.version, attempt.vehicles) == ("passed", "1.0.1", ["car-1", "car-2", "car-3"])
        folder = rig.candidates / "light-state-1.0.1"
        assert attempt.candidate == str(folder)
        assert sorted(path.name for path in rig.candidates.iterdir()) == [folder.name, f"{folder.name}.verdict.json"]
        assert vector((folder / FILE).read_bytes()) == pytest.approx(moved(START, 2.0, 0.5), abs=0.01)
        assert (rig.counters.learned_admitted, rig.counters.aggregates_passed) == (3, 1)


async def test_a_verdict_says_of_whose_updates_it_was_made_and_the_package_where_it_comes_from(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        await three_cars(rig, plan, 1.0, 2.0, 3.0)
        await rig.settle()
        verdict = json.loads((rig.candidates / "light-state-1.0.1.verdict.json").read_bytes())
        digests = {row[1]: row[4] for row in (await rig.rows("learning_update"))["learning_update"]}
        assert verdict["updates"] == digests
        assert verdict["judge"] == {"first": 2.0}
        assert (verdict["schema"], verdict["plan"], verdict["number"], verdict["base"]) == (1, plan.name, 1, plan.base)
        assert (verdict["made"], verdict["outcome"]) == (base_digest(await rig.model()), "passed")
        learned = json.loads((rig.candidates / "light-state-1.0.1" / "model.json").read_bytes())["learned"]
        assert (learned["vehicles"], learned["number"], learned["base"]) == (3, 1, plan.base)


@pytest.mark.parametrize(
    ("first", "outcome"), [(-3.0, "failed"), (-0.5, "undecided"), (-9.0, "failed")], ids=["worse", "unsure", "unbuilt"]
)
async def test_what_didnt_pass_leaves_the_line_as_it_was_and_names_its_vehicles(
    tmp_path: Path, first: float, outcome: str
) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        await three_cars(rig, plan, 1.0, 1.0, 1.0)
        await rig.settle()
        before = await rig.rows("learning_line", "learning_base")
        for number in (4, 5, 6):
            await rig.learned(plan, f"car-{number}", first - 2.0, 0.0)
        await rig.settle()
        assert await rig.rows("learning_line", "learning_base") == before
        last = (await rig.plan_status()).attempts[-1]
        assert (last.outcome, last.candidate, last.vehicles) == (outcome, "", ["car-4", "car-5", "car-6"])
        assert sorted(path.name for path in rig.candidates.iterdir()) == [
            "light-state-1.0.1",
            "light-state-1.0.1.verdict.json",
        ]
        assert (await rig.audit())[-1] == f"learning_{outcome}"
        assert getattr(rig.counters, f"aggregates_{outcome}") == 1


async def test_after_one_that_didnt_pass_the_next_is_made_of_others_alone(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        await three_cars(rig, plan, -3.0, -3.0, -3.0)
        await rig.settle()
        for number in (4, 5, 6):
            await rig.learned(plan, f"car-{number}", 1.0)
        await rig.settle()
        status = await rig.plan_status()
        assert [one.outcome for one in status.attempts] == ["failed", "passed"]
        assert await rig.model() == pytest.approx(moved(START, 1.0)), "no momentum of what failed, either"
        assert status.attempts[-1].version == "1.0.1", "a version is used up by what passed alone"


async def test_fewer_than_a_buffer_wait_until_the_operator_closes_it(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        with pytest.raises(LearningRefused, match="0 vehicles of plan lights-1 wait, 1 are needed"):
            await rig.desk.close(plan.name)
        await rig.learned(plan, "car-1", 1.0)
        await rig.settle()
        assert ((await rig.plan_status()).waits, (await rig.plan_status()).attempts) == (["car-1"], [])
        assert (await rig.desk.close(plan.name)).attempt == 1
        with pytest.raises(LearningRefused, match="Attempt 1 of plan lights-1 is being worked on"):
            await rig.desk.close(plan.name)
        await rig.settle()
        assert (await rig.plan_status()).attempts[0].outcome == "passed"
        with pytest.raises(LearningRefused, match="There is no plan 'lights-2' here"):
            await rig.desk.close("lights-2")


async def test_what_comes_while_a_buffer_is_worked_on_waits_for_the_next_and_is_staler_then(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        await three_cars(rig, plan, 2.0, 2.0, 2.0)
        assert await rig.desk.judge_some()
        assert await rig.desk.step(), "claimed"
        await rig.learned(plan, "car-1", 4.0, seq=2)
        await rig.settle()
        status = await rig.plan_status()
        assert (status.waits, status.line.number) == (["car-1"], 1)
        await rig.learned(plan, "car-2", 4.0, seq=2)
        await rig.learned(plan, "car-3", 1.0, seq=2, base=status.line.base)
        await rig.settle()
        assert (await rig.plan_status()).line.number == 2
        stale = 2**-0.5
        mean = (4.0 * stale + 4.0 * stale + 1.0) / (stale + stale + 1.0)
        assert await rig.model() == pytest.approx(moved(START, 2.0 + mean + 1.0, 0.75), abs=0.01), (
            "half of the last, too"
        )


async def test_a_plan_begins_once_and_at_its_own_package_alone(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        with pytest.raises(LearningRefused, match="was begun before"):
            await rig.begin()
        for changes, words in (
            ({"base": "a" * 64}, "its base is aaaaaaaaaaaa"),
            ({"graph": "a" * 64}, "its graph is aaaaaaaaaaaa, that of light-state@1.0 111111111111"),
            ({"layout": "a" * 64}, "its layout is aaaaaaaaaaaa"),
            ({"parameters": 5}, "its parameters is 5, that of light-state@1.0 4"),
        ):
            with pytest.raises(NotBegun, match=words):
                await rig.begin(plan_of(name="lights-2", **changes))
        assert [line.plan for line in await rig.desk.plans()] == [plan.name]


@pytest.mark.parametrize(("first", "outcome"), [(1.0, "passed"), (-3.0, "failed")])
async def test_a_package_that_isnt_what_it_was_holds_an_aggregate_up_and_loses_nothing(
    tmp_path: Path, first: float, outcome: str
) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        package_in(rig.folder / "live", START + np.float32(1))
        await three_cars(rig, plan, first, first, first)
        await rig.settle()
        status = await rig.plan_status()
        assert (status.attempts[0].outcome, status.attempts[0].vehicles) == ("", ["car-1", "car-2", "car-3"])
        assert "holds another package than it began with" in status.held_up
        package_in(rig.folder / "live")
        await rig.settle()
        assert (await rig.plan_status()).attempts[0].outcome == "", "not at once"
        rig.clock.advance(600 * SECOND_NS)
        await rig.settle()
        status = await rig.plan_status()
        assert (status.attempts[0].outcome, status.held_up) == (outcome, "")


async def test_what_is_held_up_is_begun_again_at_once_when_the_operator_says_so(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        (rig.folder / "live" / FILE).unlink()
        await three_cars(rig, plan, 1.0, 2.0, 3.0)
        await rig.settle()
        assert "There is no package in" in (await rig.plan_status()).held_up
        package_in(rig.folder / "live")
        assert (await rig.desk.close(plan.name)).attempt == 1
        await rig.settle()
        assert [one.outcome for one in (await rig.plan_status()).attempts] == ["passed"]


async def test_while_one_aggregate_is_held_up_the_next_buffer_fills_and_waits_its_turn(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        (rig.folder / "live" / FILE).unlink()
        await three_cars(rig, plan, 1.0, 1.0, 1.0)
        await rig.settle()
        await three_cars(rig, plan, 1.0, 1.0, 1.0, seq=2)
        await rig.settle()
        status = await rig.plan_status()
        assert (len(status.attempts), status.line.waiting) == (1, 3)
        package_in(rig.folder / "live")
        await rig.desk.close(plan.name)
        await rig.settle()
        assert [one.outcome for one in (await rig.plan_status()).attempts] == ["passed", "passed"]


async def test_one_plan_that_is_held_up_holds_up_no_other(tmp_path: Path) -> None:
    async with a_rig(tmp_path, buffer=1) as rig:
        await rig.begin()
        other = plan_of(name="lights-2")
        await rig.begin(other, package="other")
        (rig.folder / "live" / FILE).unlink()
        (rig.candidates / "light-state-1.0.2").mkdir(parents=True)
        for plan in (plan_of(), other):
            await rig.learned(plan, "car-1", 1.0)
        await rig.settle()
        held = [status.held_up for status in (await rig.status()).plans]
        assert "There is no package" in held[0]
        assert "holds another candidate" in held[1]
        await rig.begin(plan_of(name="lights-3"), package="third")
        await rig.learned(plan_of(name="lights-3"), "car-1", 1.0)
        await rig.settle()
        assert [one.outcome for one in (await rig.status()).plans[2].attempts] == ["passed"]
        assert (rig.candidates / "light-state-1.0.3").is_dir(), "versions are shared by all plans of a package"


async def test_a_newer_update_takes_the_place_of_an_older_one_that_waits_and_of_no_other(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        for seq, first in ((1, 9.0), (2, 1.0)):
            await rig.learned(plan, "car-1", first, seq=seq)
        await rig.settle()
        assert (await rig.plan_status()).waits == ["car-1"]
        await rig.learned(plan, "car-2", 1.0)
        await rig.learned(plan, "car-3", 1.0)
        await rig.settle()
        assert await rig.model() == pytest.approx(moved(START, 1.0), abs=0.01)
        rows = (await rig.rows("learning_update"))["learning_update"]
        assert [(row[1], row[2], row[5], row[6]) for row in rows] == [
            ("car-1", 1, -1, None), ("car-1", 2, 1, None), ("car-2", 1, 1, None), ("car-3", 1, 1, None),
        ]  # fmt: skip


async def test_blocks_that_somebody_else_has_judged_are_judged_no_second_time(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        await rig.learned(plan, "car-1", 1.0)
        read = await rig.store.transact(books.page, 4)
        assert await rig.desk.judge_some()
        before = await rig.rows("learning_update", "learning_count")
        with pytest.raises(Overtaken):
            await rig.store.transact(books.write, read, judge_blocks(read.blocks, read.ledger), 1)
        assert await rig.rows("learning_update", "learning_count") == before


async def test_another_candidate_in_its_place_holds_it_up_until_that_is_moved_away(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        theirs = rig.candidates / "light-state-1.0.1"
        theirs.mkdir(parents=True)
        await three_cars(rig, plan, 1.0, 2.0, 3.0)
        await rig.settle()
        assert "holds another candidate" in (await rig.plan_status()).held_up
        assert (await rig.plan_status()).attempts[0].candidate == ""
        theirs.rmdir()
        rig.clock.advance(600 * SECOND_NS)
        await rig.settle()
        status = await rig.plan_status()
        assert (status.attempts[0].candidate, status.held_up) == (str(theirs), "")


@pytest.mark.parametrize(
    ("title", "taken", "expected"),
    [
        ("light-state@1.0", [], "1.0.1"),
        ("light-state@1.0", ["1.0.1", "1.0.9", "1.1.20"], "1.0.10"),
        ("light-state@1.0.3", [], "1.0.4"),
        ("light-state@1.0.3", ["1.0.1"], "1.0.4"),
        ("light-state@1.10", ["1.1.7"], "1.10.1"),
    ],
)
def test_a_candidates_version_follows_all_that_are_known(title: str, taken: list[str], expected: str) -> None:
    assert next_version(title, taken) == expected
