"""Every frame has exactly one fate, and every slot one holder, whatever the camera and the workers do (law 2)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.frames import read_frame_counts
from ecu.clock import SECOND_NS
from ecu.errors import EnvironmentFault, UsageFault
from inference.messages import Begin, Look
from tests.agent.puppets import PERIOD_S, SLOTS, PuppetCamera, Stage, on_stage, says_its_source_is
from tests.agent.virtualtime import in_virtual_time, passes, settled


@in_virtual_time
async def test_a_frame_is_processed_when_the_live_worker_has_seen_it(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        stage.camera.captures()
        assert fates(stage) == {"in_flight": 1}
        stage.live.sees()
        assert fates(stage) == {"processed": 1}
        assert [seen.frame_id for seen in stage.seen] == [0]


@in_virtual_time
async def test_a_frame_whose_place_a_newer_one_takes_is_dropped_by_policy(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        for _ in range(3):
            stage.camera.captures()
        assert fates(stage) == {"dropped_by_policy": 1, "in_flight": 2}
        stage.live.sees()
        assert stage.live.asked.frame_id == 2


@in_virtual_time
async def test_a_frame_that_was_captured_with_no_slot_free_is_dropped_by_policy(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        stage.camera.leases.clear()
        stage.camera.captures()
        assert fates(stage) == {"dropped_by_policy": 1}


@in_virtual_time
async def test_a_frame_that_waited_too_long_for_its_turn_is_dropped_late(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        await a_late_frame(stage)
        assert fates(stage) == {"processed": 1, "dropped_late": 1}
        assert len(stage.live.heard_of(Look)) == 1


@in_virtual_time
async def test_a_frame_whose_worker_dies_over_it_is_lost_to_the_fault(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        stage.camera.captures()
        stage.live.dies()
        assert fates(stage) == {"lost_to_fault": 1}


@in_virtual_time
async def test_with_a_camera_only_the_frames_are_lost_that_it_never_told(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        stage.camera.captures()
        stage.camera.captures()
        stage.camera.captures_untold()
        stage.camera.dies()
        await settled()
        assert fates(stage) == {"lost_to_fault": 1, "in_flight": 2}
        stage.live.sees()
        stage.live.sees()
        assert fates(stage) == {"lost_to_fault": 1, "processed": 2}


@in_virtual_time
async def test_after_the_end_nothing_is_under_way(tmp_path: Path) -> None:
    async with on_stage(tmp_path) as stage:
        stage.camera.captures()
        stage.camera.captures()
        stage.camera.captures_untold()
    counts = read_frame_counts(tmp_path / "camera.ledger", tmp_path / "frames.ledger")
    assert counts is not None
    assert (counts.captured, counts.lost_to_fault, counts.in_flight, counts.underway) == (3, 3, 0, 0)


EVENTS = (
    "frame", "result", "time", "live dies", "standby dies", "camera dies", "camera dies over a frame",
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(st.sampled_from(EVENTS), max_size=30))
@example(["frame", "live dies"])
@example(["frame", "frame", "time", "result"])
@example(["frame", "frame", "camera dies", "result", "result"])
def test_after_any_events_every_slot_is_leased_or_holds_a_frame_in_flight(events: list[str]) -> None:
    @in_virtual_time
    async def scenario() -> None:
        with tempfile.TemporaryDirectory(prefix="outrider-fates-") as folder:
            async with on_stage(Path(folder)) as stage:
                for event in events:
                    happens(event, stage)
                    await passes(lasts_s(event))
                    counts = stage.frames
                    assert counts.holds, counts
                    assert len(stage.camera.leases) + counts.in_flight == SLOTS
                    assert counts.processed == len(stage.seen)
                    assert counts.in_flight <= 2
                told = [seen.frame_id for seen in stage.seen]
                assert told == sorted(set(told))

    scenario()


def lasts_s(event: str) -> float:
    """Whoever died is back by then."""
    return 20.0 if "dies" in event else 0.6 * PERIOD_S if event == "time" else 0.001


def happens(event: str, stage: Stage) -> None:
    match event:
        case "frame":
            stage.camera.captures()
        case "camera dies over a frame":
            stage.camera.captures_untold()
            stage.camera.dies()
        case "result" if stage.frames.in_flight:
            stage.live.sees()
        case "live dies":
            stage.live.dies()
        case "standby dies":
            stage.standby.dies()
        case "camera dies":
            stage.camera.dies()


@pytest.mark.parametrize("fate", ["dropped_by_policy", "dropped_late"])
@in_virtual_time
async def test_that_the_scene_starts_anew_outlives_the_frame_that_said_so_and_is_told_once(
    tmp_path: Path, fate: str
) -> None:
    async with on_stage(tmp_path) as stage:
        if fate == "dropped_late":
            await a_late_frame(stage, fresh=True)
            stage.camera.captures()
        else:
            for fresh in (False, True, False):
                stage.camera.captures(fresh)
            stage.live.sees()
        assert fates(stage)[fate] == 1
        stage.live.sees()
        stage.camera.captures()
        assert [look.fresh for look in stage.live.heard_of(Look)] == [False, True, False]


@in_virtual_time
async def test_in_lockstep_the_first_frame_is_due_where_the_drive_begins(tmp_path: Path) -> None:
    begins_ns = 5 * SECOND_NS
    async with on_stage(tmp_path, lockstep=True, from_ns=begins_ns) as stage:
        assert stage.camera.heard_of(Begin) == [Begin(begins_ns, lockstep=True)]
        assert stage.perception.next_due_ns == begins_ns


@in_virtual_time
async def test_in_lockstep_a_camera_that_only_dies_is_the_environments_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"died 3 times in a row over video:nowhere\.mp4"):
        async with on_stage(tmp_path, cameras=[PuppetCamera.dies], lockstep=True):
            pass


@pytest.mark.parametrize(("usage", "fault"), [(True, UsageFault), (False, EnvironmentFault)])
@in_virtual_time
async def test_in_lockstep_a_source_that_cant_go_on_is_whose_fault_its_camera_says(
    tmp_path: Path, usage: bool, fault: type[Exception]
) -> None:
    with pytest.raises(fault, match="no such file"):
        async with on_stage(tmp_path, cameras=[says_its_source_is("no such file", usage)], lockstep=True):
            pass


@in_virtual_time
async def test_a_fault_is_over_once_frames_flow_and_a_second_one_is_told_again(tmp_path: Path) -> None:
    broken = says_its_source_is("no signal")
    async with on_stage(tmp_path, cameras=[broken, PuppetCamera.opens, broken]) as stage:
        assert stage.perception.status().camera_fault == "no signal"
        await passes(20.0)
        stage.camera.captures()
        assert stage.perception.status().camera_fault is None
        stage.camera.dies()
        await passes(20.0)
        assert stage.perception.status().camera_fault == "no signal"
        assert stage.health.count("camera_fault") == 2


@in_virtual_time
async def test_a_fault_is_told_once_however_often_it_is_tried_again(tmp_path: Path) -> None:
    async with on_stage(tmp_path, cameras=[says_its_source_is("no such file")]) as stage:
        await passes(60.0)
        assert len(stage.cameras) > 5
        assert stage.health == ["camera_fault"]


async def a_late_frame(stage: Stage, fresh: bool = False) -> None:
    """One is looked at, and another waits for more than half a period."""
    stage.camera.captures()
    stage.camera.captures(fresh)
    await passes(0.6 * PERIOD_S)
    stage.live.sees()


def fates(stage: Stage) -> dict[str, int]:
    """What became of the frames, without the zeros."""
    counts = stage.frames
    assert counts.holds, counts
    names = ("processed", "dropped_by_policy", "dropped_late", "lost_to_fault", "in_flight")
    return {name: getattr(counts, name) for name in names if getattr(counts, name)}
