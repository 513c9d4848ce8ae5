"""A candidate whose worker died or hung is never kept, whenever that was; and what differs isn't worse for that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.perception import MAX_DEATHS, Agreement
from agent.updates import DoubtHeard, DoubtRules, Doubts
from agent.updates.doubts import in_words
from inference.messages import Look
from ota.machine import Event
from tests.agent.puppets import PuppetWorker
from tests.agent.road import RULES, Road, denied, in_shadow, on_trial, taken_over
from tests.ota.fleet import Fleet


@pytest.fixture
def fleet(fleet: Fleet) -> Fleet:
    fleet.assign(fleet.release("1.0", 1))
    return fleet


def is_loaded(road: Road) -> bool:
    trial = road.stage.perception.status().trial
    return trial is not None and trial.pid is not None


async def test_one_that_died_beside_the_live_one_isnt_kept_though_the_judge_liked_it(
    fleet: Fleet, tmp_path: Path
) -> None:
    async with on_trial(tmp_path, fleet, [PuppetWorker.loads] * 2) as road:
        await road.until_noticed("shadow")
        await road.judge.is_asked.wait()
        road.candidate.dies()
        await road.tick_until(lambda: is_loaded(road))
        await road.frames(2 * RULES.shadow_frames)
        road.judge.says(Event.PASSED)
        await road.tick()
        over = await road.until_noticed("inconclusive")
        assert over.words.endswith("its worker died or hung 1 times: such a one isn't kept")
        assert not denied(tmp_path, over)


@pytest.mark.parametrize("whose", ["live", "standby"])
async def test_one_that_died_while_live_isnt_kept_however_long_it_goes_on(
    fleet: Fleet, tmp_path: Path, whose: str
) -> None:
    async with on_trial(tmp_path, fleet, [PuppetWorker.loads] * 4) as road:
        await taken_over(road)
        await road.tick_until(lambda: road.stage.perception.status().standby_pid is not None)
        getattr(road.stage, whose).dies()
        await road.tick_until(lambda: road.stage.perception.status().live_pid is not None)
        await road.proven()
        over = await road.until_noticed("inconclusive")
        assert "died or hung 1 times" in over.words
        assert not denied(tmp_path, over)
        assert road.updates.status().kinds[0].good is None
        assert road.told("committed") is None


async def test_one_that_hangs_at_the_very_frame_that_would_prove_it_isnt_kept(fleet: Fleet, tmp_path: Path) -> None:
    async with on_trial(tmp_path, fleet) as road:
        await taken_over(road)
        await road.frames(RULES.prove_frames)
        hangs = road.stage.live
        await road.frames(1, but=[hangs])
        await road.tick()
        await road.tick()
        assert road.told("committed") is None
        hangs.dies()
        await road.tick()
        assert "died or hung 1 times" in (await road.until_noticed("inconclusive")).words


async def test_one_whose_last_death_comes_with_its_proof_is_denied_and_not_kept(fleet: Fleet, tmp_path: Path) -> None:
    async with on_trial(tmp_path, fleet, [PuppetWorker.loads] * 8) as road:
        await taken_over(road)
        await road.tick_until(lambda: road.stage.perception.status().standby_pid is not None)
        for worker in (road.stage.live, road.stage.standby):
            worker.dies()
        await road.tick_until(lambda: road.stage.perception.status().live_pid is not None)
        await road.frames(RULES.prove_frames)
        road.stage.live.dies()
        await road.tick()
        assert denied(tmp_path, await road.until_noticed("rolled_back"))


async def test_one_whose_workers_ended_three_times_is_denied_also_when_none_of_them_looked_at_a_frame(
    fleet: Fleet, tmp_path: Path
) -> None:
    async with on_trial(tmp_path, fleet) as road:
        await taken_over(road)
        status = road.stage.perception.status()
        assert status.trial is not None
        trial = replace(status.trial, deaths=MAX_DEATHS)
        vars(road.overheard)["status"] = lambda: replace(status, trial=trial)
        await road.tick()
        over = await road.until_noticed("rolled_back")
        assert over.words == "its worker ended 3 times"
        assert denied(tmp_path, over)


async def test_a_candidate_that_sees_all_otherwise_raises_an_alarm_and_is_kept_all_the_same(
    fleet: Fleet, tmp_path: Path
) -> None:
    alarms: list[str] = []
    pictures: list[str] = []
    heard = DoubtHeard(alarms.append, pictures.append)
    async with on_trial(tmp_path, fleet, heard=heard) as road:
        await in_shadow(road)
        for _ in range(3 * DoubtRules().alarm_frames):
            road.stage.camera.captures()
            for worker in road.stage.workers:
                if worker.alive and worker.owes:
                    worker.sees(objects=int(worker is road.stage.live))
                    road.answered[worker.pid] = len(worker.heard_of(Look))
        trial = road.stage.perception.status().trial
        assert trial is not None
        assert trial.agreement.f1 == 0.0
        assert len(alarms) == 1
        assert alarms[0].startswith("model drive 1.0 (release 1): agreement 0.00 over 5")
        assert len(pictures) == 3 * DoubtRules().alarm_frames // DoubtRules().apart_frames
        road.judge.says(Event.PASSED)
        await road.tick()
        await road.until_noticed("switched")
        await road.tick()
        await road.proven()
        await road.until_noticed("committed")


# --- what is told of a disagreement -------------------------------------------------------------------


def told(frames: list[Agreement], rules: DoubtRules) -> tuple[list[str], list[str]]:
    alarms: list[str] = []
    pictures: list[str] = []
    doubts, whole = Doubts("it", DoubtHeard(alarms.append, pictures.append), rules), Agreement()
    for frame in frames:
        whole = whole.plus(frame)
        doubts.note(frame, whole)
    return alarms, pictures


SAME, OTHER = Agreement(1, 2, 0, 0), Agreement(1, 0, 2, 1)
RULED = DoubtRules(alarm_below=0.5, keeps_below=0.5, alarm_frames=10, alarm_objects=20, pictures=3, apart_frames=2)


def test_two_that_agree_are_told_of_to_nobody() -> None:
    assert told([SAME] * 100, RULED) == ([], [])


@pytest.mark.parametrize(
    ("frames", "alarms"),
    [
        ([OTHER] * 9, 0),  # too few frames
        ([OTHER] * 10, 1),
        ([OTHER] * 100, 1),  # once
        ([Agreement(1, 0, 1, 0)] * 19, 0),  # too few objects
        ([SAME] * 60 + [OTHER] * 60, 0),  # 2 * 120 of 240 + 180 objects: above half, and half of what the first saw
        ([Agreement(1, 2, 3, 0)] * 10, 1),  # 4 of 7 agreed, and 2 of 5 kept
        ([Agreement(1, 2, 0, 3)] * 10, 0),  # as much more seen
        ([Agreement(1, 2, 0, 5)] * 10, 1),  # too much more
    ],
)
def test_an_alarm_is_raised_once_by_enough_frames_and_objects(frames: list[Agreement], alarms: int) -> None:
    assert len(told(frames, RULED)[0]) == alarms


def test_pictures_are_bounded_apart_and_of_what_is_disputed_most() -> None:
    small, great = Agreement(1, 0, 1, 0), Agreement(1, 1, 4, 6)
    assert len(told([OTHER] * 100, RULED)[1]) == RULED.pictures
    assert len(told([OTHER] * 2, RULED)[1]) == 1
    assert told([great, SAME, SAME, small, SAME, small], RULED)[1] == ["models_disagree 0.83"]
    assert told([small, SAME, SAME, great], RULED)[1] == ["models_disagree 1.00", "models_disagree 0.83"]


def test_the_alarms_words_have_the_numbers() -> None:
    assert in_words(Agreement(4, 1, 2, 3)) == (
        "agreement 0.29 over 4 frames: 1 objects seen by both, 2 by the live model alone, 3 by the candidate alone"
    )
