"""The daemon as a whole, in this process: what holds it up, and what doesn't."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent.config import AgentConfig, CameraSection, LinkSection
from agent.daemon import Daemon, _leaves
from ecu.disk import DiskFull
from simulator.demo.demo import DRIVE
from tests.agent.hanging import first_camera_hangs

CONFIG = AgentConfig(camera=CameraSection(source=f"video:{DRIVE}?loop=1"), link=LinkSection(kind="none"))


@contextlib.asynccontextmanager
async def at_work(daemon: Daemon) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)


async def test_a_camera_that_never_opens_holds_up_neither_the_spool_nor_the_end(tmp_path: Path) -> None:
    daemon = Daemon(CONFIG, tmp_path / "state", first_camera_hangs(tmp_path))
    async with asyncio.timeout(60), at_work(daemon):
        daemon._health("test", "something worth keeping")
        while not any(lane.durable for lane in daemon.status().spool.lanes):
            await asyncio.sleep(0.01)
        assert daemon.status().law_1_holds


def test_what_failed_in_nested_tasks_is_told_by_its_own_words() -> None:
    full = DiskFull("Can't write: the disk is full.")
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [full]), ValueError("other")])
    assert next(_leaves(nested)) is full
