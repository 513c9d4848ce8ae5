"""An onlooker hears the running agent, through its deaths."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from agent.api import LocalApi
from agent.view import View
from ecu.clock import SteppingClock
from inference.messages import SeenTrack
from simulator.boxes import Box
from simulator.demo.observer import Done, Observations, Observer
from simulator.demo.script import Deed

TRACK = SeenTrack(7, "car", 0.8, (1.0, 2.0, 3.0, 4.0), 5, True)


@pytest.fixture
async def heard(tmp_path: Path) -> AsyncIterator[Observations]:
    """What an observer of the socket in `tmp_path` hears, at boot time 5. Nobody speaks there yet."""
    observations = Observations(began_ns=0)
    observing = asyncio.create_task(Observer(tmp_path / "agent.sock", SteppingClock(5), observations).run())
    yield observations
    observing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await observing


async def test_events_are_noted_with_the_time_of_hearing(tmp_path: Path, heard: Observations) -> None:
    api = LocalApi(tmp_path / "agent.sock", dict)
    await api.start()
    async with asyncio.timeout(10):
        while not heard.health:
            api.publish("seen", View(41, "drive-detect 2.0 (u8s8)", 1000, 77, 60, (TRACK,)))
            api.publish("status", {"pid": 12})
            api.publish("health", {"what": "worker_lost", "detail": "pid 3"})
            await asyncio.sleep(0.001)
    await api.stop()
    sighting, reading = heard.sightings[0], heard.readings[0]
    assert (sighting.heard_ns, sighting.frame_id, sighting.t_ns) == (5, 41, 1000)
    assert (sighting.latency_ns, sighting.model_ns) == (77, 60)
    assert sighting.boxes == (Box(7, "car", 0.8, (1.0, 2.0, 3.0, 4.0)),)
    assert (reading.heard_ns, reading.status) == (5, {"pid": 12})
    assert heard.health[0] == (5, "worker_lost", "pid 3")


async def test_an_agent_that_dies_is_heard_again_when_it_is_back(tmp_path: Path, heard: Observations) -> None:
    frame_ids = count()

    async def live_for_one_frame(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        event = b'{"frame_id": %d, "model": "", "t_ns": 0, "latency_ns": 0, "model_ns": 0, "tracks": []}' % next(
            frame_ids
        )
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nevent: seen\ndata: " + event + b'\n\nevent: seen\ndata: {"frame_i')
        writer.close()

    async with asyncio.timeout(10), await asyncio.start_unix_server(live_for_one_frame, tmp_path / "agent.sock"):
        while len(heard.sightings) < 3:
            await asyncio.sleep(0.001)
    assert [sighting.frame_id for sighting in heard.sightings[:3]] == [0, 1, 2]


def test_a_deed_is_known_only_once_it_was_done() -> None:
    seen = Observations(0)
    assert seen.done(Deed.CUT_LINK) is None
    seen.deeds.append(Done(Deed.CUT_LINK, 1, 2))
    assert seen.done(Deed.CUT_LINK) == Done(Deed.CUT_LINK, 1, 2)
    assert seen.done(Deed.KILL_AGENT) is None
