"""The daemon as a whole, in this process: what holds it up, and what doesn't."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent.bugs import leaves
from agent.config import AgentConfig, CameraSection, LinkSection, PerceptionSection
from agent.daemon import Daemon
from ecu.clock import SystemClock
from ecu.disk import DiskFull
from inference.package import find_package
from ota.errors import Attack
from ota.kinds import Kind
from ota.slots import Installed
from ota.updates import Notice
from simulator.demo.demo import DRIVE
from simulator.demo.observer import Observations, Observer
from telemetry.records import Lane
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
        async with asyncio.timeout(30):
            await running


async def test_a_camera_that_never_opens_holds_up_neither_the_spool_nor_the_end(tmp_path: Path) -> None:
    daemon = Daemon(CONFIG, tmp_path / "state", first_camera_hangs(tmp_path))
    async with asyncio.timeout(60), at_work(daemon):
        daemon.on_health("test", "something worth keeping")
        while not any(lane.durable for lane in daemon.status().spool.lanes):
            await asyncio.sleep(0.01)
        assert daemon.status().law_1_holds


async def test_what_became_of_a_release_is_told_here_and_becomes_a_record(tmp_path: Path) -> None:
    daemon = Daemon(AgentConfig(link=LinkSection(kind="none")), tmp_path / "state", {})
    release = Installed("ab" * 32, 3, "model drive-detect 2.1 (release 3)")
    refused = Notice("refused", Kind.MODEL, release, Attack.ROLLBACK, "rollback: offered release 3, installed 5")
    heard = Observations(0)
    async with asyncio.timeout(60), at_work(daemon):
        listening = asyncio.create_task(Observer(tmp_path / "state" / "agent.sock", SystemClock(), heard).run())
        while not heard.readings:
            await asyncio.sleep(0.01)
        daemon.on_update(refused)
        daemon.on_update(Notice("committed", None, None, None, ""))
        while len(heard.updates) < 2:
            await asyncio.sleep(0.01)
        listening.cancel()
        lanes = {lane.lane: lane.offered for lane in daemon.status().spool.lanes}
    told, bare = heard.updates
    assert (told.what, told.unit, told.title, told.attack, told.words) == (
        "refused", "model", release.title, "rollback", refused.words,
    )  # fmt: skip
    assert (bare.what, bare.unit, bare.title, bare.attack, bare.words) == ("committed", "", "", "", "")
    assert {lane for lane, offered in lanes.items() if offered} == {Lane.P1}
    assert lanes[Lane.P1] == 2 + 1, "and the start's clock anchor"


async def test_without_a_model_that_tells_states_none_is_tried_none_runs_and_none_learns(tmp_path: Path) -> None:
    camera, link = CameraSection(source="video:drive.mp4"), LinkSection(kind="none")
    on = Daemon(AgentConfig(link=link, camera=camera), tmp_path / "on", {})
    assert set(on._parts.factory()) == {Kind.MODEL, Kind.STATE}
    assert on._parts.states() == find_package("light-state")
    off = AgentConfig(link=link, camera=camera, perception=PerceptionSection(states=""))
    without = Daemon(off, tmp_path / "off", {})
    assert set(without._parts.factory()) == {Kind.MODEL}
    assert without._parts.states() is None


async def test_without_a_camera_no_model_is_tried(tmp_path: Path) -> None:
    blind = Daemon(AgentConfig(link=LinkSection(kind="none")), tmp_path / "blind", {})
    assert blind._parts.factory() == {}


def test_what_failed_in_nested_tasks_is_told_by_its_own_words() -> None:
    full = DiskFull("Can't write: the disk is full.")
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [full]), ValueError("other")])
    assert next(leaves(nested)) is full
