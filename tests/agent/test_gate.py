"""What a candidate must still show once the judge liked it, and by what it is never judged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agent.judging import floor_within
from agent.updates import Opinion
from agent.updates.memory import SLACK_BYTES, judge_memory
from ecu.process import peak_memory_bytes
from inference.floor import GateFloor
from ota.facts import Budgets
from ota.kinds import Kind
from ota.machine import Event
from tests.agent.puppets import PuppetWorker
from tests.agent.road import MIB, RULES, denied, in_shadow, on_trial
from tests.agent.test_conduct import damage
from tests.ota.fleet import Fleet

# --- what it costs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "budget", "what"),
    [
        ((100 * MIB, 150 * MIB), None, "switched"),
        ((100 * MIB, 200 * MIB), None, "rolled_back"),
        ((100 * MIB, 150 * MIB), 140 * MIB, "rolled_back"),
        ((100 * MIB, 130 * MIB), 140 * MIB, "switched"),
        ((100 * MIB, 200 * MIB), 300 * MIB, "rolled_back"),  # its own word makes nothing of the vehicle's laxer
        ((100 * MIB, None), None, "inconclusive"),
        ((None, 100 * MIB), None, "inconclusive"),
    ],
)
async def test_a_candidate_that_takes_too_much_memory_isnt_kept(
    fleet: Fleet, tmp_path: Path, memory: tuple[int | None, int | None], budget: int | None, what: str
) -> None:
    budgets = Budgets(memory_bytes=budget)
    fleet.assign(fleet.release("1.0", 1, budgets=budgets))
    async with on_trial(tmp_path, fleet) as road:
        road.overheard.memory = memory
        await in_shadow(road)
        road.judge.says(Event.PASSED)
        await road.tick()
        over = await road.until_noticed(what)
        assert denied(tmp_path, over) == (what == "rolled_back")


def test_memory_is_judged_by_ratio_slack_and_promise() -> None:
    most = int(1.5 * 100 * MIB) + SLACK_BYTES
    assert judge_memory(100 * MIB, most, 1.5, None).event is Event.PASSED
    assert judge_memory(100 * MIB, most + 1, 1.5, None).event is Event.FAILED
    assert judge_memory(100 * MIB, most, 1.5, most).event is Event.PASSED
    assert judge_memory(100 * MIB, most, 1.5, most - 1).event is Event.FAILED
    assert judge_memory(MIB, 40 * MIB, 1.5, None) == Opinion(
        Event.FAILED, "40 MiB of memory, the live one 1 MiB: too much, 18 MiB are allowed"
    )


def test_the_memory_of_a_process_can_be_told_and_of_none_it_cant() -> None:
    assert (peak_memory_bytes(os.getpid()) or 0) > 10 * MIB
    assert peak_memory_bytes(1 << 22) is None


async def test_a_release_is_held_to_the_cpu_time_that_it_promised(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1, budgets=Budgets(cpu_relative=1.25)))
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road)
        assert road.judge.cpu_at_most == 1.25


@pytest.mark.parametrize(("promised", "held"), [(None, 2.5), (1.25, 1.25), (0.8, 0.8), (9.0, 2.5)])
def test_a_promise_may_be_stricter_than_the_floor_and_never_laxer(promised: float | None, held: float) -> None:
    floor = floor_within(GateFloor(), promised)
    assert floor.cpu_ratio_at_most == held
    # As the judge's process reads it.
    assert GateFloor.model_validate_json(floor.model_dump_json()) == floor


# --- by what it is judged -----------------------------------------------------------------------------


async def test_a_director_that_offers_no_labelled_set_offers_no_way_around_it(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road)
        ((_, _, judged_by),) = road.judge.asked
        assert judged_by is None  # by which nothing is decided: test_judging.py


async def test_a_labelled_set_older_than_the_one_that_was_kept_is_refused_with_what_comes_with_it(
    fleet: Fleet, tmp_path: Path
) -> None:
    older, newer = (fleet.release(f"{n}.0", n, kind=Kind.EVALUATION) for n in (1, 2))
    fleet.assign(newer)
    async with on_trial(tmp_path, fleet) as road:
        await road.until_noticed("committed", "evaluation")
        fleet.assign(older, fleet.release("1.0", 1))
        await road.look_again()
        assert "offered release 1, installed 2" in (await road.until_noticed("refused")).words
        await road.thread_idle()
        assert road.told("staged", "model") is None


@pytest.mark.parametrize("damaged", [True, False])
async def test_an_older_set_that_flash_brought_back_judges_nothing(fleet: Fleet, tmp_path: Path, damaged: bool) -> None:
    older, newer = (fleet.release(f"{n}.0", n, kind=Kind.EVALUATION) for n in (1, 2))
    fleet.assign(older)
    async with on_trial(tmp_path, fleet) as road:
        await road.until_noticed("committed", "evaluation")
        fleet.assign(newer)
        await road.look_again()
        await road.until_noticed("committed", "2.0")
        (kept,) = road.updates.taken(Kind.EVALUATION)
    later = tmp_path / "later"
    shutil.copytree(tmp_path / "updates", later / "updates")
    if damaged:
        damage(later / kept.relative_to(tmp_path))
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(later, fleet, [PuppetWorker.loads] * 2) as road:
        await road.until_noticed("shadow", "model")
        await road.frames(RULES.shadow_frames)
        if damaged:
            await road.tick()
            over = await road.until_noticed("inconclusive", "model")
            assert "What is left of evaluation is release 1; release 2 was kept once." in over.words
            assert road.judge.asked == []
            assert not denied(later, over)
        else:
            await road.judge.is_asked.wait()
