"""A candidate beside the live model, and the change of places: whatever the candidate does, the live one sees on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.perception import ModelUnfit, TrialOver
from agent.perception.agreement import Agreement
from agent.perception.beside import MAX_DEATHS
from agent.perception.workers import MAX_TRACKS, PATIENCE
from ecu.errors import EnvironmentFault
from inference.messages import Glimpse, Look, Ring, SeenTrack
from inference.track import TrackerParams
from tests.agent.puppets import (
    HANG_S,
    SLOTS,
    PuppetCamera,
    PuppetWorker,
    Stage,
    Watch,
    WorkerAct,
    on_stage,
    result,
    says_its_source_is,
)
from tests.agent.virtualtime import in_virtual_time, passes, settled

CANDIDATE = Path("candidate")


async def tries(stage: Stage) -> tuple[Watch, PuppetWorker]:
    """The watch, and the candidate's worker."""
    watch = Watch()
    stage.perception.try_beside(CANDIDATE, watch)
    await settled()
    return watch, stage.workers[-1]


UNLOADABLE: Sequence[WorkerAct] = [PuppetWorker.loads] * 4 + [PuppetWorker.dies]
"""The live one, its standby, the candidate and the standby that it gets once it is live; nobody after that."""


def track(number: int, x: float = 0.0, confirmed: bool = True) -> SeenTrack:
    return SeenTrack(number, "car", 0.9, (x, 0.0, x + 9.0, 9.0), 5, confirmed)


# --- beside -------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_candidate_sees_what_the_live_one_sees_and_nobody_hears_of_it(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        watch, candidate = await tries(stage)
        stage.camera.captures()
        assert candidate.asked == stage.live.asked
        candidate.sees(objects=3)
        assert stage.seen == []
        trial = stage.perception.status().trial
        assert trial is not None
        assert (trial.is_live, trial.pid, trial.looked_at) == (False, candidate.pid, 1)
        stage.live.sees()
        assert [len(seen.tracks) for seen in stage.seen] == [0]
        assert watch.told == ["loaded"]


@pytest.mark.parametrize("live_goes_on", [False, True])
@pytest.mark.parametrize("first", ["live", "candidate"])
@in_virtual_time
async def test_both_are_compared_on_every_frame_that_both_have_seen_whoever_is_slower(
    tmp_path: Path, first: str, live_goes_on: bool
) -> None:
    async with on_stage(tmp_path) as stage:
        _, candidate = await tries(stage)
        for number in (1, 3, 5):
            stage.camera.captures()
            answer = result(candidate.asked.frame_id, track(number), track(number + 1, 20.0, confirmed=False))
            if first == "candidate":
                candidate.says(answer)
            stage.live.sees(1)
            if first == "live" and live_goes_on:
                stage.camera.captures()
                stage.live.sees(0)
            if first == "live":
                candidate.says(answer)
        trial = stage.perception.status().trial
        assert trial is not None
        assert (trial.looked_at, trial.agreement) == (3, Agreement(frames=3, both=3))


@in_virtual_time
async def test_a_frame_that_only_one_of_them_has_seen_compares_nothing(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        _, candidate = await tries(stage)
        stage.camera.captures()
        candidate.sees(1)
        stage.live.dies()
        stage.camera.captures()
        stage.live.sees(1)
        candidate.dies()
        trial = stage.perception.status().trial
        assert trial is not None
        assert (trial.looked_at, trial.agreement) == (1, Agreement())


@pytest.mark.parametrize("opens", ["before", "later"])
@in_virtual_time
async def test_a_candidate_is_shown_the_frame_memory_whenever_the_camera_opens(tmp_path: Path, opens: str) -> None:
    cameras = (
        [PuppetCamera.opens] if opens == "before" else [*[says_its_source_is("no signal")] * 3, PuppetCamera.opens]
    )
    async with on_stage(tmp_path, cameras=cameras) as stage:
        _, candidate = await tries(stage)
        assert len(candidate.heard_of(Ring)) == (opens == "before")
        await passes(20.0)
        assert len(candidate.heard_of(Ring)) == 1
        assert candidate.heard_of(Ring) == stage.live.heard_of(Ring)
        assert candidate.package == CANDIDATE


@in_virtual_time
async def test_a_slow_candidate_leaves_frames_out_and_costs_the_live_one_none(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        _, candidate = await tries(stage)
        for _ in range(5):
            stage.camera.captures()
            stage.live.sees()
        assert len(candidate.heard_of(Look)) == 1
        assert stage.frames.processed == 5
        assert len(stage.camera.leases) == SLOTS - 1
        candidate.sees()
        assert len(stage.camera.leases) == SLOTS


@in_virtual_time
async def test_a_candidate_may_wait_longer_for_a_processor_than_what_the_road_waits_for(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        _, candidate = await tries(stage)
        stage.camera.captures()
        stage.live.sees()
        await passes(0.9 * PATIENCE * HANG_S)
        assert PATIENCE >= 5
        assert candidate.alive
        await passes(0.2 * PATIENCE * HANG_S)
        assert candidate.was_killed
        assert len(stage.camera.leases) == SLOTS


@in_virtual_time
async def test_a_candidate_that_is_live_must_be_as_quick_as_any(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        _, candidate = await tries(stage)
        await stage.perception.swap()
        assert stage.live is candidate
        stage.camera.captures()
        await passes(1.1 * HANG_S)
        assert candidate.was_killed


@in_virtual_time
async def test_every_death_of_a_candidate_counts_beside_and_live_and_the_last_straw_is_told_once(
    tmp_path: Path,
) -> None:
    async with on_stage(tmp_path) as stage:
        watch, candidate = await tries(stage)
        for _ in range(MAX_DEATHS - 1):
            candidate.dies()
            await passes(20.0)
            candidate = stage.workers[-1]
        assert watch.told == ["loaded"]
        await stage.perception.swap()
        for _ in range(2):
            stage.live.dies()
            await passes(20.0)
        assert watch.told == ["loaded", "crashed"]
        trial = stage.perception.status().trial
        assert trial is not None
        assert trial.deaths == MAX_DEATHS + 1


@in_virtual_time
async def test_a_candidate_that_no_worker_can_load_is_unfit_and_is_told_once(tmp_path: Path) -> None:
    loads = PuppetWorker.loads
    # The live one, its standby, the candidate, the standby of each when it is live; nobody after that.
    async with on_stage(tmp_path, workers=[*[loads] * 5, PuppetWorker.dies]) as stage:
        watch, candidate = await tries(stage)
        for _ in range(2):
            await stage.perception.swap()
            await settled()
        candidate.dies()
        await passes(60.0)
        assert watch.told == ["loaded", "unfit"]
        stage.camera.captures()
        stage.live.sees()
        assert stage.frames.processed == 1


@in_virtual_time
async def test_a_computer_that_cant_start_a_candidates_worker_says_nothing_against_the_candidate(
    tmp_path: Path,
) -> None:
    async with on_stage(tmp_path) as stage:
        stage.stillborn = EnvironmentFault("no more processes")
        watch, _ = await tries(stage)
        assert watch.told == ["hindered: no more processes"]
        stage.camera.captures()
        stage.live.sees()
        assert stage.frames.processed == 1


@in_virtual_time
async def test_a_bug_in_what_keeps_a_candidate_is_nobodys_verdict_and_isnt_hidden(tmp_path: Path) -> None:
    bugs = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context.get("exception")))
    async with on_stage(tmp_path) as stage:
        stage.stillborn = bug = ZeroDivisionError()
        watch, _ = await tries(stage)
        assert watch.told == []
        assert bugs == [bug]


@in_virtual_time
async def test_whoever_stopped_a_trial_is_told_nothing_more_of_it(tmp_path: Path) -> None:
    async with on_stage(tmp_path, workers=[PuppetWorker.loads, PuppetWorker.loads, PuppetWorker.hangs]) as stage:
        watch, candidate = await tries(stage)
        leaving = asyncio.ensure_future(stage.perception.leave_beside())
        await asyncio.sleep(0)
        candidate.loads()
        for _ in range(MAX_DEATHS):
            candidate.dies()
        await leaving
        await settled()
        assert watch.told == []


@in_virtual_time
async def test_who_leaves_a_candidate_waits_until_it_is_gone(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        _, candidate = await tries(stage)
        candidate.stops_within_s = 1.0
        await stage.perception.leave_beside()
        assert candidate.is_reaped


@pytest.mark.parametrize("ends", [False, True])
@in_virtual_time
async def test_what_is_being_stopped_ends_though_nobody_waits_for_it_any_more(tmp_path: Path, ends: bool) -> None:
    async with on_stage(tmp_path) as stage:
        _, candidate = await tries(stage)
        stage.camera.captures()
        stage.live.sees()
        candidate.stops_within_s = 1.0
        leaving = asyncio.ensure_future(stage.perception.leave_beside())
        await settled()
        leaving.cancel()
        if not ends:
            await passes(1.0)
            assert candidate.is_reaped
            assert len(stage.camera.leases) == SLOTS
    assert candidate.is_reaped


# --- answers that nobody gives --------------------------------------------------------------------------------------


def test_a_pool_takes_as_many_tracks_as_a_tracker_follows() -> None:
    assert TrackerParams().max_tracks == MAX_TRACKS


@pytest.mark.parametrize("who", ["live", "candidate"])
@pytest.mark.parametrize(
    "tracks",
    [
        [track(number, 20.0 * number) for number in range(1, MAX_TRACKS + 2)],
        [track(2)],
        [track(2**64 - 1)],
    ],
    ids=["too many", "a gap", "the last number"],
)
@in_virtual_time
async def test_an_answer_that_no_tracker_gives_ends_its_worker_and_counts_for_nothing(
    tmp_path: Path, who: str, tracks: Sequence[SeenTrack]
) -> None:
    async with on_stage(tmp_path) as stage:
        _, candidate = await tries(stage)
        stage.camera.captures()
        worker = stage.live if who == "live" else candidate
        worker.says(result(worker.asked.frame_id, *tracks))
        await settled()
        assert worker.was_killed
        assert stage.seen == []
        trial = stage.perception.status().trial
        assert trial is not None
        assert trial.looked_at == 0


@in_virtual_time
async def test_so_is_one_with_more_glimpses_than_a_model_has(tmp_path: Path) -> None:
    many = tuple(Glimpse("car", (0.0, 0.0, 9.0, 9.0)) for _ in range(MAX_TRACKS + 1))
    async with on_stage(tmp_path) as stage:
        stage.camera.captures()
        worker = stage.live
        worker.says(replace(result(worker.asked.frame_id), glimpses=many))
        await settled()
        assert worker.was_killed
        assert stage.seen == []


@in_virtual_time
async def test_as_many_tracks_as_there_may_be_are_taken(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        stage.camera.captures()
        stage.live.sees(MAX_TRACKS)
        assert len(stage.seen[0].tracks) == MAX_TRACKS


# --- changing places ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looking", ["nobody", "live", "candidate", "both"])
@in_virtual_time
async def test_places_are_changed_between_two_frames(tmp_path: Path, looking: str) -> None:
    async with on_stage(tmp_path) as stage:
        old = stage.live
        _, candidate = await tries(stage)
        if looking != "nobody":
            stage.camera.captures()
        if looking == "live":
            candidate.sees()
        if looking == "candidate":
            old.sees()
        swapping = asyncio.ensure_future(stage.perception.swap())
        await settled()
        assert swapping.done() == (looking == "nobody")
        for _ in range(3):
            stage.camera.captures()
            for worker in (old, candidate):
                if worker.owes:
                    worker.sees()
        first = await swapping
        assert stage.live is candidate
        trial = stage.perception.status().trial
        assert trial is not None
        assert (trial.is_live, trial.pid) == (True, candidate.pid)
        assert all(look.frame_id < first for look in old.heard_of(Look))
        assert candidate.asked.frame_id == stage.camera.next_id - 1 >= first
        assert [seen.frame_id for seen in stage.seen] == list(range(stage.camera.next_id))


@in_virtual_time
async def test_tracks_of_both_models_share_no_number_however_often_places_are_changed(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        _, candidate = await tries(stage)
        for _ in range(3):
            stage.camera.captures()
            trial = stage.perception.status().trial
            assert trial is not None
            if not trial.is_live:
                candidate.sees(5)
            stage.live.sees(2)
            await stage.perception.swap()
        numbers = [number.track_id for seen in stage.seen for number in seen.tracks]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 6


@in_virtual_time
async def test_the_live_model_has_a_standby_and_the_one_beside_has_none(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        old, old_standby = stage.live, stage.standby
        await tries(stage)
        assert len(stage.workers) == 3
        await stage.perception.swap()
        await settled()
        assert old_standby.was_killed
        assert old.alive
        assert len(stage.workers) == 4
        assert stage.standby is stage.workers[3]
        assert stage.perception.status().workers_replaced == 0
        await stage.perception.swap()
        await settled()
        assert stage.live is old
        assert stage.standby is stage.workers[4]
        assert stage.perception.status().workers_replaced == 0, "whoever made room wasn't lost"
        stage.live.dies()
        assert stage.perception.status().workers_replaced == 1


@in_virtual_time
async def test_a_swap_waits_until_the_one_beside_has_a_worker_again(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        _, candidate = await tries(stage)
        candidate.dies()
        swapping = asyncio.ensure_future(stage.perception.swap())
        stage.camera.captures()
        stage.live.sees()
        assert not swapping.done()
        await passes(20.0)
        assert await swapping == 1
        assert stage.live is stage.workers[3]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@in_virtual_time
async def test_a_swap_to_a_model_that_no_worker_can_load_any_more_is_over(tmp_path: Path, when: str) -> None:
    async with on_stage(tmp_path, workers=UNLOADABLE) as stage:
        old = stage.live
        watch, _ = await tries(stage)
        await stage.perception.swap()
        await settled()
        old.dies()
        if when == "before":
            await passes(60.0)
        swapping = asyncio.ensure_future(stage.perception.swap())
        await passes(60.0)
        with pytest.raises(TrialOver, match="can't take over"):
            await swapping
        assert watch.told == ["loaded"], "the candidate is as good as before"
        stage.camera.captures()
        stage.live.sees()
        assert stage.frames.processed == 1


@in_virtual_time
async def test_the_deaths_of_the_model_before_are_nobodys_fault(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        watch, _ = await tries(stage)
        before = stage.live.package
        await stage.perception.swap()
        await settled()
        for _ in range(MAX_DEATHS):
            next(worker for worker in stage.workers if worker.package == before and worker.alive).dies()
            await passes(20.0)
        assert watch.told == ["loaded"]


@in_virtual_time
async def test_a_swap_is_over_when_the_trial_is(tmp_path: Path) -> None:
    async with on_stage(tmp_path, workers=[PuppetWorker.loads, PuppetWorker.loads, PuppetWorker.hangs]) as stage:
        await tries(stage)
        swapping = asyncio.ensure_future(stage.perception.swap())
        await settled()
        await stage.perception.leave_beside()
        with pytest.raises(TrialOver, match="stopped"):
            await swapping


@in_virtual_time
async def test_a_swap_that_nobody_waits_for_any_more_never_happens(tmp_path: Path) -> None:
    async with on_stage(tmp_path, workers=[PuppetWorker.loads, PuppetWorker.loads, PuppetWorker.hangs]) as stage:
        old = stage.live
        _, candidate = await tries(stage)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await stage.perception.swap()
        candidate.loads()
        stage.camera.captures()
        old.sees()
        assert stage.live is old


# --- giving way -----------------------------------------------------------------------------------------------------


async def candidate_gives_up(stage: Stage) -> Watch:
    watch, candidate = await tries(stage)
    await stage.perception.swap()
    await settled()
    stage.standby.dies()
    candidate.dies()
    return watch


@in_virtual_time
async def test_a_live_candidate_that_no_worker_can_load_gives_way_at_once_and_is_unfit(tmp_path: Path) -> None:
    async with on_stage(tmp_path, workers=UNLOADABLE) as stage:
        old = stage.live
        watching = asyncio.ensure_future(stage.perception.watch())
        watch = await candidate_gives_up(stage)
        stage.camera.captures()
        waits_s = 0.0
        while stage.perception.status().live_pid is None:
            await passes(0.001)
            waits_s += 0.001
            assert waits_s < 60
        assert stage.live is old
        await settled()
        assert watch.told == ["loaded", "unfit"]
        assert "model_unfit" in stage.health
        stage.camera.captures()
        old.sees()
        assert stage.seen[-1].frame_id == 1
        assert not watching.done()
        watching.cancel()


@in_virtual_time
async def test_in_lockstep_a_frame_that_waited_is_seen_by_the_model_that_takes_over(tmp_path: Path) -> None:
    async with on_stage(tmp_path, workers=UNLOADABLE, lockstep=True) as stage:
        old = stage.live
        await candidate_gives_up(stage)
        stage.camera.captures()
        advancing = asyncio.ensure_future(stage.perception.advance(1))
        await passes(60.0)
        assert stage.live is old
        assert old.asked.frame_id == 0
        old.sees()
        stage.camera.says_done(1)
        assert await advancing


@in_virtual_time
async def test_whoever_waits_for_the_model_before_has_it_when_the_candidate_gives_way(tmp_path: Path) -> None:
    workers: list[WorkerAct] = [*[PuppetWorker.loads] * 4, PuppetWorker.hangs, PuppetWorker.dies]
    async with on_stage(tmp_path, workers=workers) as stage:
        old = stage.live
        watching = asyncio.ensure_future(stage.perception.watch())
        await tries(stage)
        await stage.perception.swap()
        await settled()
        old.dies()
        await settled()
        swapping = asyncio.ensure_future(stage.perception.swap())
        stage.standby.dies()
        stage.live.dies()
        await passes(30.0)
        assert await swapping == 0
        reloading = next(one for one in stage.workers if one.package == old.package and one.alive)
        reloading.loads()
        assert stage.live is reloading
        watching.cancel()


@in_virtual_time
async def test_a_candidate_never_leads_because_the_live_model_cant_be_loaded_any_more(tmp_path: Path) -> None:
    async with on_stage(tmp_path, workers=[*[PuppetWorker.loads] * 3, PuppetWorker.dies]) as stage:
        _, candidate = await tries(stage)
        watching = asyncio.ensure_future(stage.perception.watch())
        stage.standby.dies()
        stage.live.dies()
        with pytest.raises(ModelUnfit):
            await watching
        assert stage.perception.status().live_pid != candidate.pid


@in_virtual_time
async def test_when_neither_model_can_be_loaded_any_more_the_perception_ends_in_words(tmp_path: Path) -> None:
    async with on_stage(tmp_path, workers=UNLOADABLE) as stage:
        old = stage.live
        watching = asyncio.ensure_future(stage.perception.watch())
        await candidate_gives_up(stage)
        old.dies()
        with pytest.raises(ModelUnfit, match="3 workers in a row"):
            await watching


# --- lockstep -------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_in_lockstep_the_drive_waits_for_a_candidate_until_its_trial_is_over(tmp_path: Path) -> None:
    workers: list[WorkerAct] = [PuppetWorker.loads, PuppetWorker.loads, PuppetWorker.hangs]
    async with on_stage(tmp_path, workers=workers, lockstep=True) as stage:
        await tries(stage)
        advancing = asyncio.ensure_future(stage.perception.advance(1))
        stage.camera.captures()
        stage.camera.says_done(1)
        await settled()
        assert not stage.live.heard_of(Look)
        await stage.perception.leave_beside()
        stage.live.sees()
        assert await advancing


@in_virtual_time
async def test_in_lockstep_the_next_frame_waits_for_whoever_still_looks_at_this_one(tmp_path: Path) -> None:
    async with on_stage(tmp_path, lockstep=True) as stage:
        _, candidate = await tries(stage)
        stage.camera.captures()
        stage.camera.captures()
        stage.live.sees()
        assert len(stage.live.heard_of(Look)) == 1
        candidate.sees()
        assert stage.live.asked.frame_id == candidate.asked.frame_id == 1


@in_virtual_time
async def test_in_lockstep_nobody_waits_for_a_candidate_that_died_over_the_last_frame(tmp_path: Path) -> None:
    workers: list[WorkerAct] = [PuppetWorker.loads, PuppetWorker.loads, PuppetWorker.loads, PuppetWorker.hangs]
    async with on_stage(tmp_path, workers=workers, lockstep=True) as stage:
        _, candidate = await tries(stage)
        advancing = asyncio.ensure_future(stage.perception.advance(1))
        stage.camera.captures()
        stage.camera.says_done(1)
        stage.live.sees()
        await settled()
        assert not advancing.done()
        candidate.dies()
        await settled()
        assert advancing.done()


@in_virtual_time
async def test_in_lockstep_nobody_waits_for_the_model_before(tmp_path: Path) -> None:
    async with on_stage(tmp_path, workers=[*[PuppetWorker.loads] * 4, PuppetWorker.hangs], lockstep=True) as stage:
        old = stage.live
        await tries(stage)
        await stage.perception.swap()
        await settled()
        old.dies()
        stage.camera.captures()
        stage.live.sees()
        assert stage.frames.processed == 1
