"""The signals process as the agent has it: a real child on a real recording, in lockstep and at real speed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from msgspec.structs import replace

from agent.children import Child
from agent.perception.settings import StartsChildren, Supervision
from agent.signals.campaigns import CampaignShelf
from agent.signals.messages import (
    Admission,
    Captured,
    Finish,
    FromSignals,
    PicturesWanted,
    SignalsFault,
    TimeHeard,
    Told,
    ToSignals,
    Wanted,
    Work,
)
from agent.signals.process import SignalProcess
from agent.signals.side import BARRED, DEADLY, ENDED, MODULE, UNFINISHED, SignalSide
from ecu.channel import ChannelClosed, Done, Message, pair
from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.errors import EnvironmentFault, UsageFault
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.privacy.policy import PrivacyPolicy
from telemetry.records import Purpose, Record, SignalBlock, Triggered
from telemetry.signals.conversation import Conversation
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
    from_ns: int = 0
    has_camera: bool = True
    records: list[Record] = field(default_factory=list)
    values: list[dict[str, float]] = field(default_factory=list)
    times: list[TimeHeard] = field(default_factory=list)
    clips: list[PicturesWanted] = field(default_factory=list)
    admissions: list[Admission] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def side(self, start: StartsChildren = Child.start) -> SignalSide:
        file = self.folder / "campaigns.json"
        file.write_bytes(self.wanted)
        shelf = CampaignShelf(CrashDisk(), lambda: None, file)
        return SignalSide(self.work, shelf, self, Supervision(Random(1), dict(os.environ), start=start), self._ill)

    def work(self) -> Work:
        source, plan = self.folder / "bus.frames", self.folder / "signals.plan"
        if not source.exists():
            source.write_bytes(encode_recording(drive(SECONDS), level=1))
            plan.write_bytes(encode_plan(PLAN))
        return Work(
            source=self.source or f"frames:{source}", plan=self.plan or str(plan), privacy=OPEN.model_dump_json(),
            floor=self.floor.model_dump_json(), told=(SPEED,), folder=str(self.folder / "book"),
            most_event_bytes=90_000, realtime=self.realtime, from_ns=self.from_ns,
            has_camera=self.has_camera,
        )  # fmt: skip

    async def until(self, reached: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not reached():
                self.news.clear()
                await self.news.wait()

    # --- as the side's Hears ---

    def on_values(self, t_ns: int, values: dict[str, float]) -> None:
        self.values.append(values)
        self.news.set()

    def on_time_heard(self, heard: TimeHeard) -> None:
        self.times.append(heard)
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
        self.unusable.append(why)
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


@pytest.mark.parametrize("has_camera", [True, False])
async def test_in_lockstep_a_clip_is_of_its_triggers_instant_and_is_wanted_only_of_a_camera(
    tmp_path: Path, has_camera: bool
) -> None:
    scene = Scene(tmp_path, campaigns(CLIP), has_camera=has_camera)
    fired = [record.captured_ns for record in await in_lockstep(scene, 750) if isinstance(record.event, Triggered)]
    wanted = [PicturesWanted("clip", number, t_ns, 2, 3) for number, t_ns in enumerate(fired, 1)]
    assert fired
    assert scene.clips == (wanted if has_camera else [])


async def test_lockstep_waits_for_a_process_that_gets_no_time_and_loses_nothing_that_was_told(tmp_path: Path) -> None:
    all_seen = campaign("seen", {"kind": "periodic", "period_ms": 1000}, SEEN)
    side = Scene(tmp_path, campaigns(all_seen), floor=FLOOR.model_copy(update={"assumed_hz": 2000.0})).side()
    await side.begin()
    try:
        pid = side.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        for t_ms in range(1000):
            side.tell(t_ms * MS, {SEEN: float(t_ms)})
        # By then whatever would be lost is.
        asyncio.get_running_loop().call_later(0.05, os.kill, pid, signal.SIGCONT)
        _, records = await side.advance(1000 * MS)
    finally:
        await side.stop()
    assert told_of(records, SEEN) == [(t_ms * MS, float(t_ms)) for t_ms in range(1000)]


async def test_a_fetch_that_waited_for_the_process_is_of_what_comes_then(tmp_path: Path) -> None:
    fetch = campaign("fetch", {"kind": "once", "id": 1, "post_ms": 1000}, SPEED)
    begin_ms = 50_000
    scene = Scene(tmp_path, campaigns(fetch), from_ns=begin_ms * MS)
    side = scene.side()
    await side.begin()
    try:
        records = (await side.advance((begin_ms + 2000) * MS))[1]
    finally:
        await side.stop()
    assert [type(record.event) for record in records] == [Triggered, SignalBlock]
    assert len(told_of(records, SPEED)) == 50


async def test_a_bus_that_cannot_be_read_is_the_owners_mistake_and_is_not_tried_again(tmp_path: Path) -> None:
    for source, plan, words in (
        ("frames:/nowhere/bus.frames", "", "can't be read"),
        ("", str(tmp_path / "nowhere.plan"), "outrider signals compile"),
        ("canopener:can0", "", "names no bus"),
    ):
        scene = Scene(tmp_path, campaigns(STEADY), source=source, plan=plan)
        side = scene.side()
        with pytest.raises(UsageFault, match=words):
            await side.run()
        assert side.status().replaced == 0
        assert bool(scene.unusable) == bool(plan), "a plan isn't blamed for its bus"


async def test_work_given_twice_is_our_bug_and_not_said_to_be_the_owners_mistake(tmp_path: Path) -> None:
    said: list[FromSignals] = []
    gone = asyncio.Event()
    child: Child[FromSignals] = await Child.start(
        MODULE, [], FromSignals, lambda _, message: said.append(message), lambda _: gone.set(), dict(os.environ)
    )
    work = Scene(tmp_path, b"").work()
    try:
        assert child.send(work)
        assert child.send(work)
        async with asyncio.timeout(30):
            await gone.wait()
    finally:
        await child.stop()
    assert not any(isinstance(message, SignalsFault) for message in said)


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


async def test_a_set_that_no_process_lives_with_is_barred_until_another_is_signed(tmp_path: Path) -> None:
    deadly = campaigns(STEADY)

    class Killing(Scene):
        def on_admission(self, admission: Admission) -> None:
            super().on_admission(admission)
            if (self.folder / "campaigns.json").read_bytes() == deadly:
                os.kill(side.status().pid or 0, signal.SIGKILL)

    scene = Killing(tmp_path, deadly, realtime=True)
    side = scene.side()
    running = asyncio.create_task(side.run())
    try:
        await scene.until(lambda: f"campaigns_refused: {BARRED}" in scene.health)
        assert len(scene.admissions) == DEADLY
        scene.values.clear()
        await scene.until(lambda: scene.values)
        side.look()
        assert (side.status().refused, side.status().revision, side.status().fault) == (BARRED, 0, "")
        (tmp_path / "campaigns.json").write_bytes(campaigns(STEADY, CLIP, revision=2))
        side.look()
        await scene.until(lambda: scene.admissions[-1].revision == 2)
        assert len(scene.admissions) == DEADLY + 1, "it wasn't asked for again"
        assert (side.status().refused, side.status().revision) == ("", 2)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await side.stop()


async def test_a_set_is_barred_for_no_ends_but_those_with_it(tmp_path: Path) -> None:
    class Killing(Scene):
        """Ends with the first set until one more would bar it, then once with the next."""

        def on_admission(self, admission: Admission) -> None:
            super().on_admission(admission)
            if len(self.admissions) == DEADLY - 1:
                (self.folder / "campaigns.json").write_bytes(campaigns(STEADY, revision=2))
            if len(self.admissions) <= DEADLY:
                os.kill(side.status().pid or 0, signal.SIGKILL)

    scene = Killing(tmp_path, campaigns(STEADY), realtime=True)
    side = scene.side()
    running = asyncio.create_task(side.run())
    try:
        await scene.until(lambda: f"campaigns_refused: {BARRED}" in scene.health or len(scene.admissions) > DEADLY)
        assert [admission.revision for admission in scene.admissions] == [1, 1, 2, 2]
        assert side.status().refused == ""
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await side.stop()


async def test_what_kept_one_process_from_beginning_is_not_said_of_the_end_of_the_next(tmp_path: Path) -> None:
    # Mutation: a reason that outlives its process is told again, and such an end never bars a set.
    reasons = ["no room for another process"]

    async def start(*what: Any) -> Child[Any]:
        if reasons:
            raise EnvironmentFault(reasons.pop())
        child = await Child.start(*what)
        child.kill()
        return child

    scene = Scene(tmp_path, campaigns(STEADY), realtime=True)
    side = scene.side(cast(StartsChildren, start))
    running = asyncio.create_task(side.run())
    try:
        await scene.until(lambda: len(scene.health) == 2)
        assert scene.health == ["signals_lost: no room for another process", f"signals_lost: {ENDED}"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await side.stop()


async def test_in_lockstep_a_process_that_was_renewed_goes_on_with_nothing_retained(tmp_path: Path) -> None:
    scene = Scene(tmp_path, campaigns(STEADY))
    side = scene.side()
    await side.begin()
    try:
        await side.advance(500 * MS)
        pid = side.status().pid
        scene.from_ns = 500 * MS
        granted = asyncio.create_task(side.advance(600 * MS))
        await asyncio.gather(granted, side.renew())
        assert side.status().pid not in (None, pid)
        values, _ = await side.advance(700 * MS)
        assert values
        assert (side.status().fault, scene.health) == ("", [])
    finally:
        await side.stop()


async def test_a_process_that_was_let_go_is_followed_by_another_and_nothing_is_told_as_a_loss(tmp_path: Path) -> None:
    """Another plan lets it go in order, a purge at once."""
    scene = Scene(tmp_path, campaigns(STEADY), realtime=True)
    side = scene.side()
    running = asyncio.create_task(side.run())
    try:
        await scene.until(lambda: scene.admissions)
        await side.restart(1 << 62, within_s=10.0)
        assert side.status().pid is None
        await scene.until(lambda: len(scene.admissions) == 2)
        await side.stop()
        await scene.until(lambda: len(scene.admissions) == 3)
        assert (scene.health, side.status().replaced) == ([], 2)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await side.stop()
    assert await side.finish(1 << 62, within_s=0.0), "of a process that is gone nothing more is to be heard"


async def test_after_finish_nothing_is_captured_and_who_asks_again_is_answered_again(tmp_path: Path) -> None:
    seen = campaign("seen", {"kind": "periodic", "period_ms": 1000}, SEEN)
    scene, clock = Scene(tmp_path, campaigns(seen)), SteppingClock()
    ours, theirs = pair()
    agent: Conversation[FromSignals] = Conversation(ours, FromSignals)
    work = replace(scene.work(), source="", plan="", realtime=True)
    running = asyncio.create_task(SignalProcess(Conversation(theirs, ToSignals), work, clock, Random(1)).run())

    async def finished(t_ns: int, *before: Message) -> list[Message]:
        for message in (*before, Finish(t_ns)):
            await agent.send(message)
        said: list[Message] = []
        async with asyncio.timeout(30):
            while not said or said[-1] != Done(t_ns):
                said.append(await agent.receive())
        return said

    with theirs:
        said = await finished(1000 * MS, Wanted(scene.wanted), Told(500 * MS, {SEEN: 1.0}))
        assert sum(isinstance(message, Captured) for message in said) == 1
        clock.advance(60_000 * MS)
        assert await finished(60_000 * MS, Told(30_000 * MS, {SEEN: 2.0})) == [Done(60_000 * MS)]
        agent.close()
        with pytest.raises(ChannelClosed):
            await running


async def test_what_could_not_be_heard_before_the_end_is_said(tmp_path: Path) -> None:
    scene = Scene(tmp_path, campaigns(STEADY), realtime=True)
    side = scene.side()
    running = asyncio.create_task(side.run())
    try:
        await scene.until(lambda: scene.admissions)
        pid = side.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not await side.finish(1 << 62, within_s=0.01)
        await side.stop()
    assert scene.health == [f"signals_lost: {UNFINISHED}"]


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
