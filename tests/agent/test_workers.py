"""A model's workers: one is live, one stands by, and who hangs, lies or dies is replaced."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.perception import ModelUnfit
from agent.perception.workers import LOADING_NS
from ecu.clock import SECOND_NS
from ecu.urgency import Urgency, may_prefer
from inference.messages import Look, Start
from tests.agent.puppets import HANG_S, PuppetWorker, Watch, on_stage, result
from tests.agent.virtualtime import in_virtual_time, passes, settled
from tests.ecu.urgencies import has_urgency, urgencies_of

LOADING_S = LOADING_NS / SECOND_NS


@in_virtual_time
async def test_when_the_live_worker_dies_the_standby_sees_the_next_frame(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        standby = stage.standby
        stage.live.dies()
        assert stage.live is standby
        stage.camera.captures()
        standby.sees()
        assert [seen.frame_id for seen in stage.seen] == [0]


@in_virtual_time
async def test_no_track_has_the_number_of_another_whoever_saw_them(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        for _ in range(4):
            for objects in (2, 0, 3):
                stage.camera.captures()
                stage.live.sees(objects)
            stage.live.dies()
            await passes(20.0)
        numbers = [track.track_id for seen in stage.seen for track in seen.tracks]
        assert numbers == list(range(1, 21))
        assert [worker.heard_of(Start) for worker in stage.workers[:2]] == [[Start(1)], [Start(6)]]


@in_virtual_time
async def test_a_worker_is_killed_when_its_result_is_due_and_not_before(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        worker = stage.live
        stage.camera.captures()
        await passes(0.9 * HANG_S)
        assert worker.alive
        await passes(0.2 * HANG_S)
        assert worker.was_killed
        assert "worker_hung" in stage.health


@in_virtual_time
async def test_a_worker_that_answered_in_time_is_never_killed(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        for _ in range(5):
            stage.camera.captures()
            await passes(0.4 * HANG_S)
            stage.live.sees()
        await passes(2 * HANG_S)
        assert not any(worker.was_killed for worker in stage.workers)


@in_virtual_time
async def test_a_worker_isnt_killed_for_what_its_predecessor_was_asked(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        successor = stage.standby
        stage.camera.captures()
        stage.live.dies()
        await passes(2 * HANG_S)
        assert stage.live is successor
        assert not successor.was_killed


@pytest.mark.parametrize(
    ("who", "frames", "frame_id"), [("live", 0, 0), ("live", 1, 7), ("standby", 0, 0), ("standby", 1, 0)]
)
@in_virtual_time
async def test_a_result_that_wasnt_asked_of_its_worker_counts_for_nothing_and_ends_it(
    tmp_path: Path, who: str, frames: int, frame_id: int
) -> None:
    async with on_stage(tmp_path) as stage:
        for _ in range(frames):
            stage.camera.captures()
        worker = stage.live if who == "live" else stage.standby
        worker.says(result(frame_id))
        assert stage.seen == []
        assert stage.frames.processed == 0
        await settled()
        assert worker.was_killed
        assert worker is not stage.live
        assert len(stage.workers) == 3


@in_virtual_time
async def test_standbys_that_die_while_they_load_dont_end_a_perception_whose_live_worker_works(tmp_path: Path) -> None:
    async with on_stage(tmp_path, workers=[PuppetWorker.loads, PuppetWorker.dies]) as stage:
        watching = asyncio.ensure_future(stage.perception.watch())
        await passes(120.0)
        assert len(stage.workers) > 10
        assert not watching.done()
        watching.cancel()
        stage.camera.captures()
        stage.live.sees()
        assert len(stage.seen) == 1


@in_virtual_time
async def test_a_model_over_which_three_workers_die_without_a_word_is_unfit(tmp_path: Path) -> None:
    with pytest.raises(ModelUnfit, match=r"3 workers in a row died while loading the model in .*dmesg"):
        async with on_stage(tmp_path, workers=[PuppetWorker.dies]):
            pass


@in_virtual_time
async def test_a_worker_that_hangs_while_it_loads_is_killed_at_the_deadline(tmp_path: Path) -> None:
    async with on_stage(tmp_path, workers=[PuppetWorker.hangs, PuppetWorker.loads]) as stage:
        hung = stage.workers[0]
        await passes(LOADING_S + 1)
        assert hung.was_killed
        assert hung.died_s == hung.born_s + LOADING_S
        assert stage.standby is stage.workers[2]


@in_virtual_time
async def test_a_worker_that_loaded_in_time_may_live_beyond_the_deadline(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        await passes(2 * LOADING_S)
        assert len(stage.workers) == 2
        assert not stage.live.heard_of(Look)


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    """Real processes, to be preferred."""
    processes = [subprocess.Popen(["sleep", "600"]) for _ in range(6)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


@in_virtual_time
async def test_at_real_speed_what_the_road_waits_for_goes_first_and_the_standby_last(
    tmp_path: Path, sleepers: list[int]
) -> None:
    if not may_prefer():
        pytest.skip("this user may not make processes more urgent (CAP_SYS_NICE)")
    async with on_stage(tmp_path, pids=iter(sleepers)) as stage:
        standby = stage.standby
        assert has_urgency(stage.camera.pid, Urgency.ROAD)
        assert has_urgency(stage.live.pid, Urgency.ROAD)
        assert has_urgency(standby.pid, Urgency.PATIENT)
        stage.live.dies()
        await settled()
        assert has_urgency(standby.pid, Urgency.ROAD)
        assert has_urgency(stage.standby.pid, Urgency.PATIENT)


@in_virtual_time
async def test_whoever_leads_goes_first_and_whoever_is_beside_it_last_also_when_started_again(
    tmp_path: Path, sleepers: list[int]
) -> None:
    if not may_prefer():
        pytest.skip("this user may not make processes more urgent (CAP_SYS_NICE)")
    async with on_stage(tmp_path, pids=iter(sleepers)) as stage:
        old = stage.live
        stage.perception.try_beside(Path("candidate"), Watch())
        await settled()
        candidate = stage.workers[-1]
        assert has_urgency(candidate.pid, Urgency.PATIENT)
        await stage.perception.swap()
        assert has_urgency(candidate.pid, Urgency.ROAD)
        assert has_urgency(old.pid, Urgency.PATIENT)
        await settled()
        old.dies()
        await settled()
        assert stage.workers[-1].package == old.package
        assert has_urgency(stage.workers[-1].pid, Urgency.PATIENT)


@in_virtual_time
async def test_in_lockstep_nobody_goes_before_anybody(tmp_path: Path, sleepers: list[int]) -> None:
    before = [urgencies_of(pid) for pid in sleepers]
    async with on_stage(tmp_path, pids=iter(sleepers), lockstep=True):
        assert [urgencies_of(pid) for pid in sleepers] == before
