"""The signals process as the agent has it: a real child on a real recording, in lockstep and at real speed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.perception.settings import Supervision
from agent.signals.campaigns import CampaignShelf
from agent.signals.messages import Admission, PicturesWanted, Work
from agent.signals.side import SignalSide
from ecu.crashdisk import CrashDisk
from ecu.errors import UsageFault
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.privacy.policy import PrivacyPolicy
from telemetry.records import Purpose, Record, SignalBlock, Triggered
from telemetry.signals.plan import encode_plan
from telemetry.signals.recording import encode_recording
from tests.agent.signals.bus import BRAKING, MS, PEOPLE, PLAN, SEEN, SPEED, STEADY, campaign, campaigns, drive
from tests.agent.signals.test_capturing import FLOOR, told_of

OPEN = PrivacyPolicy(consents=frozenset(Purpose))
SECONDS = 6
CLIP = campaign(
    "clip", {"kind": "on_condition", "when": f"{SPEED} < 90"}, SPEED, clip={"before": 2, "after": 3},
    budget={"bytes_per_day": 1 << 40},
)  # fmt: skip


@dataclass
class Scene:
    """A side, what it hears, and the files that its process reads."""

    folder: Path
    wanted: bytes
    realtime: bool = False
    source: str = ""
    plan: str = ""
    floor: CampaignFloor = FLOOR
    records: list[Record] = field(default_factory=list)
    values: list[dict[str, float]] = field(default_factory=list)
    clips: list[PicturesWanted] = field(default_factory=list)
    admissions: list[Admission] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def side(self) -> SignalSide:
        file = self.folder / "campaigns.json"
        file.write_bytes(self.wanted)
        shelf = CampaignShelf(CrashDisk(), lambda: None, file)
        return SignalSide(self._work, shelf, self, Supervision(Random(1), dict(os.environ)), self._ill)

    def _work(self) -> Work:
        source, plan = self.folder / "bus.frames", self.folder / "signals.plan"
        if not source.exists():
            source.write_bytes(encode_recording(drive(SECONDS), level=1))
            plan.write_bytes(encode_plan(PLAN))
        return Work(
            source=self.source or f"frames:{source}", plan=self.plan or str(plan), privacy=OPEN.model_dump_json(),
            floor=self.floor.model_dump_json(), told=(SPEED,), folder=str(self.folder / "book"),
            most_event_bytes=90_000, realtime=self.realtime, from_ns=0,
        )  # fmt: skip

    async def until(self, reached: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not reached():
                self.news.clear()
                await self.news.wait()

    # --- as the side's Hears ---

    def on_fix(self, t_ns: int, latitude: float, longitude: float) -> None: ...

    def on_values(self, t_ns: int, values: dict[str, float]) -> None:
        self.values.append(values)
        self.news.set()

    def on_captured(self, record: Record) -> None:
        self.records.append(record)
        self.news.set()

    def on_pictures_wanted(self, wanted: PicturesWanted) -> None:
        self.clips.append(wanted)
        self.news.set()

    def on_admission(self, admission: Admission) -> None:
        self.admissions.append(admission)
        self.news.set()

    def on_ready(self) -> None: ...

    def on_unusable(self, why: str) -> bool:
        return False

    def _ill(self, what: str, detail: str) -> None:
        self.health.append(f"{what}: {detail}")
        self.news.set()


async def in_lockstep(scene: Scene, step_ms: int) -> list[Record]:
    side = scene.side()
    await side.begin()
    records: list[Record] = []
    try:
        side.tell(1_100 * MS, {SEEN: 1.0})
        for end_ms in range(step_ms, SECONDS * 1000 + step_ms, step_ms):
            records += (await side.advance(end_ms * MS))[1]
        assert await side.finish(SECONDS * 1000 * MS, within_s=10.0)
        records += side.taken_records()
    finally:
        await side.stop()
    return records


async def test_lockstep_brings_the_same_however_far_each_grant_goes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("fine", "coarse")]
    for folder in folders:
        folder.mkdir()
    wanted = campaigns(STEADY, BRAKING, PEOPLE)
    fine = await in_lockstep(Scene(folders[0], wanted), 100)
    coarse = await in_lockstep(Scene(folders[1], wanted), 750)
    assert fine == coarse
    assert len(told_of(fine, SPEED)) == SECONDS * 50
    assert {type(record.event) for record in fine} == {SignalBlock, Triggered}
    assert {record.keep_s for record in fine} == {30 * 86_400}


async def test_a_bus_that_cannot_be_read_is_the_owners_mistake_and_is_not_tried_again(tmp_path: Path) -> None:
    for source, plan, words in (
        ("frames:/nowhere/bus.frames", "", "can't be read"),
        ("", str(tmp_path / "nowhere.plan"), "outrider signals compile"),
        ("canopener:can0", "", "names no bus"),
    ):
        side = Scene(tmp_path, campaigns(STEADY), source=source, plan=plan).side()
        with pytest.raises(UsageFault, match=words):
            await side.run()
        assert side.status().replaced == 0


async def test_at_real_speed_a_trigger_its_pictures_and_values_come_as_they_happen(tmp_path: Path) -> None:
    scene = Scene(tmp_path, campaigns(STEADY, CLIP), realtime=True)
    side = scene.side()
    running = asyncio.create_task(side.run())
    try:
        await scene.until(lambda: scene.clips and scene.values and scene.records)
        [clip] = scene.clips
        assert (clip.campaign, clip.number, clip.before, clip.after) == ("clip", 1, 2, 3)
        assert scene.admissions[0].revision == 1
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        before = len(scene.records)
        assert await side.finish(1 << 62, within_s=10.0)
        await side.stop()
    assert len(scene.records) > before, "what a period had gathered is told at the end"


async def test_a_process_that_dies_is_replaced_and_takes_the_campaigns_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, campaigns(STEADY), realtime=True)
    side = scene.side()
    running = asyncio.create_task(side.run())
    try:
        await scene.until(lambda: scene.admissions)
        pid = side.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await scene.until(lambda: len(scene.admissions) == 2)
        assert scene.health == ["signals_lost: The signals process ended; nothing is captured until it is back."]
        assert (side.status().replaced, side.status().fault) == (1, "")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await side.stop()


def _is_at_work(scene: Scene, life: int) -> bool:
    return len(scene.admissions) == life and bool(scene.records)


@pytest.mark.parametrize("why", ["a purge", "another plan"])
async def test_after_a_purge_and_with_another_plan_it_goes_on_and_nobody_is_alarmed(tmp_path: Path, why: str) -> None:
    scene = Scene(tmp_path, campaigns(STEADY), realtime=True)
    side = scene.side()
    running = asyncio.create_task(side.run())
    try:
        for times in (1, 2):
            await scene.until(partial(_is_at_work, scene, times))
            before = side.status().pid
            await (side.forget() if why == "a purge" else side.restart(1 << 62, 10.0))
            scene.records.clear()
        await scene.until(partial(_is_at_work, scene, 3))
        assert before != side.status().pid
        assert scene.health == []
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await side.stop()


async def test_what_a_day_allows_is_not_given_back_by_a_kill(tmp_path: Path) -> None:
    once = campaign("few", {"kind": "on_condition", "when": f"{SPEED} < 90", "max_per_day": 1, "cooldown_ms": 0}, SPEED)
    first = await in_lockstep(Scene(tmp_path, campaigns(once)), 1000)
    again = await in_lockstep(Scene(tmp_path, campaigns(once)), 1000)
    assert sum(isinstance(record.event, Triggered) for record in first) == 1
    assert not any(isinstance(record.event, Triggered) for record in again)


async def test_refused_campaigns_say_why_and_stop_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path, campaigns(STEADY), floor=FLOOR.model_copy(update={"enabled": False}))
    side = scene.side()
    await side.begin()
    try:
        await side.advance(1000 * MS)
        assert "[campaigns] enabled" in side.status().refused
        assert side.status().revision == 0
    finally:
        await side.stop()
