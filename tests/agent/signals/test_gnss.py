"""A GNSS receiver beside a bus or alone: its positions are signals like any other, its time is handed on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import get_args

import msgspec
import numpy as np
import pytest

from agent.config import AgentConfig, SignalsSection
from agent.finding import Gravity
from agent.perception.settings import Supervision
from agent.signals.capturing import MOST_TOLD, Capturing
from agent.signals.findings import on_gnss
from agent.signals.messages import SignalsStatus, TimeHeard, Work
from agent.signals.room import OF_GNSS, SignalRoom, SignalRoomStatus, signal_settings
from agent.signals.side import SignalSide, SignalSideStatus
from ecu.clock import SystemClock
from telemetry.capture.campaigns.book import CampaignBook, MemoryShelf
from telemetry.privacy.policy import Position
from telemetry.records import Record
from telemetry.signals import vss
from telemetry.signals.frames import Frames
from telemetry.signals.gnss import BAUDS
from telemetry.signals.nmea import GNSS_GROUPS, TimeSaid
from telemetry.signals.plan import Cut, GroupCut, SignalPlan
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec
from tests.agent.signals.bus import MS, PLAN, SPEED, campaign, campaigns
from tests.agent.signals.test_capturing import FLOOR, OPEN, told_of
from tests.agent.signals.test_process import Scene
from tests.agent.signals.test_time import on_the_road
from tests.receiver.fleet import until
from tests.telemetry.signals.test_nmea import GGA, RMC, sentence

EXACT = OPEN.model_copy(update={"position": Position.EXACT})
LATITUDE = 48 + 7.038 / 60
WHERE = campaign("where", {"kind": "periodic", "period_ms": 1000}, vss.LATITUDE, vss.ALTITUDE)


@dataclass
class Receiving(Scene):
    """Scene with a receiver at `gnss`; without its bus when it is `alone`."""

    gnss: str = ""
    alone: bool = False

    def work(self) -> Work:
        work = super().work()
        told = (vss.LATITUDE,) if self.alone else (SPEED, vss.LATITUDE)
        work = msgspec.structs.replace(work, gnss=self.gnss, told=told, privacy=EXACT.model_dump_json())
        return msgspec.structs.replace(work, source="", plan="") if self.alone else work


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A receiver's end, and the path of ours."""
    far, near = pty.openpty()
    yield far, os.ttyname(near)
    for fd in (far, near):
        with contextlib.suppress(OSError):
            os.close(fd)


@asynccontextmanager
async def at_real_speed(scene: Scene) -> AsyncIterator[SignalSide]:
    side = scene.side()
    running = asyncio.create_task(side.run())
    try:
        await scene.until(lambda: scene.admissions)
        yield side
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await side.stop()


def status_of(side: SignalSide) -> SignalsStatus:
    return side.status().told or SignalsStatus("", {}, (), 0)


@pytest.mark.parametrize("alone", [True, False])
async def test_positions_reach_campaigns_and_the_agent_and_the_time_is_handed_on(
    tmp_path: Path, line: tuple[int, str], alone: bool
) -> None:
    scene = Receiving(tmp_path, campaigns(WHERE), realtime=True, gnss=line[1], alone=alone)
    async with at_real_speed(scene) as side:
        assert [admission.refused for admission in scene.admissions] == [""]
        os.write(line[0], sentence(RMC) + sentence(GGA) + b"$GPRMC,no*00\r\n")
        await scene.until(lambda: told_of(scene.records, vss.LATITUDE) and told_of(scene.records, vss.ALTITUDE))
        await scene.until(lambda: scene.times and any(vss.LATITUDE in values for values in scene.values))
        await until(lambda: status_of(side).counts.get("gnss_taken", 0) > 0)
        status = status_of(side)
    assert (status.gnss, status.counts["gnss_taken"], status.counts["gnss_damaged"]) == ("", 2, 1)
    [(t_ns, latitude)] = told_of(scene.records, vss.LATITUDE)
    assert latitude == pytest.approx(LATITUDE)
    assert [value for _, value in told_of(scene.records, vss.ALTITUDE)] == pytest.approx([545.4])
    assert [values[vss.LATITUDE] for values in scene.values if vss.LATITUDE in values] == [pytest.approx(LATITUDE)]
    [heard] = scene.times
    assert 0 <= t_ns // 1000 - heard.t_ns // 1000 < 2_000_000
    assert heard.wall_ns == 764_426_119_250_000_000  # 1994-03-23 12:35:19.25


async def test_a_line_that_is_not_there_is_said_and_stops_no_campaign(tmp_path: Path) -> None:
    steady = campaign("steady", {"kind": "periodic", "period_ms": 1000}, SPEED)
    scene = Receiving(tmp_path, campaigns(steady), realtime=True, gnss=str(tmp_path / "ttyS9"))
    async with at_real_speed(scene) as side:
        await scene.until(lambda: scene.records)
        # Each says first that it hasn't been started.
        await until(lambda: status_of(side).gnss not in ("", "not started") and status_of(side).source != "not started")
        told = status_of(side)
    assert "No GNSS receiver at" in told.gnss
    assert told.source == ""


async def test_a_receiver_alone_is_heard_by_an_agent_that_keeps_zones(tmp_path: Path, line: tuple[int, str]) -> None:
    """Without a bus, a campaign or a gateway; what the agent asks for otherwise it tells itself."""
    zones = [{"latitude": 10.0, "longitude": 11.0, "radius_m": 200}]
    config = AgentConfig.model_validate({"signals": {"gnss": line[1]}, "privacy": {"zones": zones}})
    values: dict[str, float] = {}
    ill: list[str] = []
    room = SignalRoom(
        tmp_path, signal_settings(config, realtime=True), lambda _: (), SystemClock(), lambda: 0,
        Supervision(Random(1), dict(os.environ)), lambda _, told: values.update(told), lambda _: None,
        lambda _why, _t_ns, _before, _after: None, lambda what, detail: ill.append(f"{what}: {detail}"),
    )  # fmt: skip
    running = asyncio.create_task(room.run())
    try:
        os.write(line[0], sentence(RMC))
        await until(lambda: room.time_heard is not None and bool(values))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await room.close(10.0)
    assert {vss.LATITUDE, vss.LONGITUDE} <= values.keys() <= OF_GNSS
    assert (room.status().gnss, ill) == (line[1], [])


async def test_the_time_is_handed_on_once_a_second_however_often_the_receiver_says_it(tmp_path: Path) -> None:
    async with on_the_road(tmp_path, campaigns(WHERE), has_bus=False) as vehicle:
        for tenths in (0, 4, 9, 10, 12, 25):
            vehicle.process._say_time(TimeSaid(tenths * 100 * MS, 7))
        heard = [await vehicle.until(TimeHeard) for _ in range(3)]
    assert [one.t_ns for one in heard] == [0, 1000 * MS, 2500 * MS]


# --- capturing ------------------------------------------------------------------------------------


def capturing(plan: SignalPlan | None) -> Capturing:
    book = CampaignBook(None, MemoryShelf(), 0)
    return Capturing(plan, EXACT, FLOOR, book, 90_000, {vss.LATITUDE}, has_gnss=True)


def fix(here: Capturing, t_ms: int, degrees: int, rows: int = 1) -> Columns:
    raws = tuple(np.full(rows, value * 10**9, np.int64) for value in (degrees, 11))
    return Columns(here.gnss_group, np.full(rows, t_ms * MS, np.int64), raws)


def latitudes(records: Iterable[Record]) -> list[tuple[int, float]]:
    return [(t_ns, round(value, 6)) for t_ns, value in told_of(records, vss.LATITUDE)]


def latitude_frame(t_ms: int, degrees: int) -> Frames:
    return Frames(
        np.array([t_ms * MS], np.int64), np.zeros(1, np.uint8), np.full(1, 0x300, np.uint32), np.full(1, 8, np.uint8),
        np.array([degrees], "<u8").view(np.uint8).reshape(1, 8),
    )  # fmt: skip


def test_what_comes_late_is_of_now_and_what_is_of_later_waits() -> None:
    here = capturing(PLAN)
    here.take(campaigns(WHERE), -1, None)
    here.tell_columns([fix(here, 100, 48), fix(here, 200, 49)])
    records = here.step(150 * MS).records
    records += here.step(500 * MS).records
    here.tell_columns([fix(here, 300, 50), fix(here, 700, 51)])
    records += here.step(600 * MS).records
    records += here.close(1000 * MS).records
    # A block's times are exact to the microsecond.
    assert latitudes(records) == [(100 * MS, 48.0), (200 * MS, 49.0), (500 * MS, 50.0), (700 * MS, 51.0)]
    assert here.restamped == 1


def test_what_finds_no_room_is_counted_and_room_comes_back() -> None:
    here = capturing(None)
    here.tell_columns([fix(here, 1, 48, MOST_TOLD), fix(here, 1, 48, 3)])
    assert here.untaken == 3
    here.step(10 * MS)
    here.tell_columns([fix(here, 20, 48)])
    assert here.untaken == 3
    assert here.step(20 * MS).values.keys() == {vss.LATITUDE}


def test_a_position_that_the_bus_tells_too_is_told_of_both() -> None:
    places = Group("places", (SignalSpec(vss.LATITUDE, Form.INT, 1.0),), 100_000)
    plan = SignalPlan(
        Schema((*PLAN.schema.groups, places)), (*PLAN.sources, GroupCut(0, 0x300, (), (Cut(0, 8),)))
    )  # fmt: skip
    here = capturing(plan)
    here.take(campaigns(WHERE), -1, None)
    names = [group.name for group in here._signals.schema.groups]
    assert names == ["motion", "brakes", "places", *(group.name for group in GNSS_GROUPS)]
    here.tell_columns([fix(here, 100, 48)])
    here.hear(latitude_frame(200, 47))
    output = here.step(500 * MS)
    output.records += here.close(1000 * MS).records
    assert latitudes(output.records) == [(100 * MS, 48.0), (200 * MS, 47.0)]


# --- what the daemon says of it -------------------------------------------------------------------


def test_the_agent_knows_the_receivers_paths_and_speeds_without_loading_it() -> None:
    assert {signal.path for group in GNSS_GROUPS for signal in group.signals} == OF_GNSS
    assert get_args(SignalsSection.model_fields["gnss_baud"].annotation) == tuple(BAUDS)


def test_in_lockstep_there_is_no_receiver() -> None:
    config = AgentConfig.model_validate({"signals": {"gnss": "/dev/ttyS1", "gnss_baud": 38400}})
    assert (signal_settings(config, realtime=False).gnss, signal_settings(config, realtime=True).gnss) == (
        "", "/dev/ttyS1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gnss", "taken", "damaged", "words"),
    [("", 9, 1, []), ("No GNSS receiver.", 0, 0, ["No GNSS receiver."]), ("", 1, 9, ["Most of what", "gnss_baud"])],
)
def test_the_doctor_says_why_no_position_comes(gnss: str, taken: int, damaged: int, words: list[str]) -> None:
    told = SignalsStatus("", {"gnss_taken": taken, "gnss_damaged": damaged}, (), 0, gnss)
    side = SignalSideStatus(1, "", "", 1, 0, 0, 0, 0, 0, told)
    found = list(on_gnss(SignalRoomStatus("", "", "", side, "/dev/ttyS1")))
    assert [finding.gravity for finding in found] == [Gravity.BAD] * bool(words)
    assert all(word in found[0].words + found[0].advice for word in words)
