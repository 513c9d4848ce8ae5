"""A camera's keeper ends when it is told to, at whatever instant that is."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

from agent.frames import FrameAccount
from agent.perception import PerceptionSettings, Supervision
from agent.perception.camera import CameraKeeper
from ecu.clock import SECOND_NS, SystemClock
from inference.frames import FrameRing
from inference.messages import Filled, SourceFault


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
