"""A camera's keeper: who hangs, lies or only dies is replaced, in words; and it ends when it is told to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from agent.frames import FrameAccount
from agent.perception import PerceptionSettings, Supervision
from agent.perception.camera import CameraKeeper
from ecu.clock import SECOND_NS, SystemClock
from inference.frames import FrameRing
from inference.messages import Filled, Look, Ring, Skipped, SourceFault
from tests.agent.puppets import PuppetCamera, Stage, on_stage
from tests.agent.virtualtime import in_virtual_time, passes, settled

STALL_S = 10
"""Twice a healthy life."""


class Unheard:
    """An owner that is told things and does nothing about them."""

    def camera_open(self, ring: FrameRing) -> None: ...
    def frame_filled(self, frame: Filled) -> None: ...
    def frame_skipped(self) -> None: ...
    def camera_done(self, t_ns: int) -> None: ...
    def camera_gone(self) -> None: ...
    def camera_ended(self) -> None: ...
    def camera_fault(self, fault: SourceFault) -> None: ...


async def test_it_ends_although_its_camera_ends_in_the_same_instant(tmp_path: Path) -> None:
    settings = PerceptionSettings(
        source=f"video:{tmp_path / 'nothing.mp4'}", camera="front", package=tmp_path, slots=6, hang_ns=SECOND_NS,
        lockstep=False,
    )  # fmt: skip
    account = FrameAccount(tmp_path / "camera.ledger", tmp_path / "frames.ledger")
    keeper = CameraKeeper(settings, account, SystemClock(), Supervision(Random(5), os.environ), Unheard())
    running = asyncio.create_task(keeper.run())
    try:
        # Woken in the same turn of the loop as the keeper is, before it has gone on.
        await keeper._gone.wait()
        running.cancel()
        await asyncio.wait({running}, timeout=20)
        assert running.cancelled()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await keeper.stop()
        account.close()


@in_virtual_time
async def test_a_camera_that_hangs_again_and_again_is_started_more_and_more_rarely(tmp_path: Path) -> None:
    async with on_stage(tmp_path, cameras=[PuppetCamera.hangs], stall_s=STALL_S) as stage:
        await passes(3 * STALL_S)
        first, second, third, *_ = stage.cameras
        assert first.was_killed
        assert first.died_s == second.born_s == first.born_s + STALL_S
        assert second.died_s is not None
        assert third.born_s > second.died_s


@in_virtual_time
async def test_a_camera_that_says_something_in_time_doesnt_hang(tmp_path: Path) -> None:
    async with on_stage(tmp_path, stall_s=STALL_S) as stage:
        for _ in range(10):
            await passes(0.9 * STALL_S)
            stage.camera.captures()
        assert len(stage.cameras) == 1


def wrong_number(stage: Stage) -> Filled:
    return Filled(stage.camera.leases[0], stage.frames.received + 1, 0, False)


def number_told_before(stage: Stage) -> Filled:
    return Filled(stage.camera.leases[0], stage.frames.received - 1, 0, False)


def slot_being_looked_at(stage: Stage) -> Filled:
    return Filled(stage.live.asked.slot, stage.frames.received, 0, False)


def no_slot(stage: Stage) -> Filled:
    return Filled(99, stage.frames.received, 0, False)


def wrong_number_skipped(stage: Stage) -> Skipped:
    return Skipped(stage.frames.received + 1, 0)


@pytest.mark.parametrize("lie", [wrong_number, number_told_before, slot_being_looked_at, no_slot, wrong_number_skipped])
@in_virtual_time
async def test_a_camera_that_names_what_isnt_its_own_is_killed_and_nobody_hears_of_its_frame(
    tmp_path: Path, lie: Callable[[Stage], Filled | Skipped]
) -> None:
    async with on_stage(tmp_path) as stage:
        stage.camera.captures()
        before = stage.frames
        stage.camera.says(lie(stage))
        assert stage.frames == before
        await settled()
        liar, successor = stage.cameras
        assert liar.was_killed
        stage.live.sees()
        assert len(stage.live.heard_of(Look)) == 1
        successor.captures()
        assert stage.live.asked.frame_id == 1


@in_virtual_time
async def test_three_deaths_without_a_word_are_a_fault_in_words(tmp_path: Path) -> None:
    async with on_stage(tmp_path, cameras=[PuppetCamera.dies]) as stage:
        assert stage.health == ["camera_lost"] * 3 + ["camera_fault"]
        fault = stage.perception.status().camera_fault
        assert fault is not None
        assert "died 3 times in a row over video:nowhere.mp4" in fault


@in_virtual_time
async def test_a_camera_that_comes_back_with_another_size_is_told_and_killed(tmp_path: Path) -> None:
    async with on_stage(tmp_path, cameras=[PuppetCamera.opens, PuppetCamera.comes_back_larger]) as stage:
        stage.camera.dies()
        await settled()
        fault = stage.perception.status().camera_fault
        assert fault is not None
        assert "another size or pace" in fault
        assert stage.cameras[1].was_killed
        assert not stage.cameras[1].heard_of(Ring), "its frames would lie across two slots"
