"""A vehicle without a camera, on a bus: a signed campaign reaches it, and what it captured is what the bus said."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.apiclient import AgentNotRunning, ask_status
from ota.kinds import Kind
from simulator.demo.demo import DRIVE
from simulator.demo.proofs import stored_records
from simulator.demo.script import script
from simulator.demo.settings import write_settings
from simulator.demo.stage import VEHICLE, Places, Stage
from telemetry.columns.block import decode
from telemetry.records import SignalBlock, Triggered, decode_event
from telemetry.signals.plan import PLAN_FILE, encode_plan
from telemetry.signals.recording import encode_recording
from tests.agent.signals.bus import BRAKING, PEDAL, PLAN, SPEED, campaign, campaigns, drive
from tests.end_to_end.world import until

SECONDS = 8
STEADY = campaign("steady", {"kind": "periodic", "period_ms": 1000}, SPEED, PEDAL)
TOO_MUCH = campaign("greedy", {"kind": "periodic", "period_ms": 100}, SPEED)
URGENT = {**BRAKING, "lane": "p0", "purpose": "safety"}


class Fleet:
    """A receiver that serves releases, one paired vehicle, and its agent as a process."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._stage = stage
        self._folder = folder
        self._signed: dict[Kind, Any] = {}

    async def sign(self, kind: Kind, number: int, file: str, data: bytes) -> None:
        """What the vehicle is to have of that kind from now on."""
        folder = self._folder / f"{kind}-{number}"
        folder.mkdir()
        (folder / file).write_bytes(data)
        desk = self._stage.desk
        assert desk is not None
        self._signed[kind] = await asyncio.to_thread(desk.release, folder, kind, "test", f"{number}.0", number)
        await asyncio.to_thread(desk.assign, [VEHICLE], list(self._signed.values()))

    async def start_agent(self) -> asyncio.subprocess.Process:
        (self._folder / "bus.frames").write_bytes(encode_recording(drive(SECONDS), level=1))
        config = self._folder / "agent.toml"
        write_settings(config, {
            "signals": {"source": f"frames:{self._folder / 'bus.frames'}?loop=1"},
            "privacy": {"consents": ["driving", "safety", "operation"]},
            "updates": {"poll_s": 0.5},
        })  # fmt: skip
        command = ["-m", "outrider", "agent", "run", "--state", str(self._stage.places.agent), "--config", str(config)]
        with (self._folder / "agent.log").open("w") as log:
            return await asyncio.create_subprocess_exec(sys.executable, *command, stderr=log, stdout=log)

    def side(self) -> Any:
        try:
            return ask_status(self._stage.places.agent_socket)["campaigns"]["side"]
        except AgentNotRunning:
            return None

    def events(self) -> Iterator[Any]:
        for one in stored_records(self._stage.places.receiver / "receiver.sqlite", VEHICLE):
            yield decode_event(bytes(one.record.event))


def told(events: Iterator[Any], path: str) -> tuple[Any, Any]:
    """Times and raw values of a signal, by rising time."""
    found: dict[int, int] = {}
    for event in events:
        if isinstance(event, SignalBlock) and event.campaign == "steady":
            block = decode(event.columns, lambda _: None)
            for part in block.parts:
                for spec, raw in zip(block.schema.groups[part.group].signals, part.values, strict=True):
                    if spec.path == path and raw is not None:
                        found |= dict(zip(part.t_ns.tolist(), raw.tolist(), strict=True))
    times = sorted(found)
    return np.array(times), np.array([found[t_ns] for t_ns in times])


def is_what_the_bus_said(times: Any, values: Any) -> bool:
    """Whether the values are a stretch of the recording, however often it looped, with its times between them."""
    frames = drive(SECONDS)
    rows = frames.can_id == 0x100
    said = frames.data[rows].view("<u8").ravel()
    period_ns = np.diff(times)
    for begin in range(len(said)):
        if (values == said[(begin + np.arange(len(values))) % len(said)]).all():
            return bool((np.abs(period_ns - 20_000_000) <= 1000).all())
    return False


@pytest.mark.timeout(120)
async def test_a_signed_campaign_reaches_a_vehicle_without_a_camera_and_tells_what_its_bus_said() -> None:
    with tempfile.TemporaryDirectory(prefix="or-") as name:
        folder = Path(name)
        async with Stage(Places(folder / "s"), DRIVE, script(fast=True), os.environ) as stage:
            await stage.found_desk()
            await stage.start_receiver()
            await stage.pair(VEHICLE, stage.places.agent)
            fleet = Fleet(stage, folder)
            await fleet.sign(Kind.CONFIG, 1, PLAN_FILE, encode_plan(PLAN))
            await fleet.sign(Kind.CAMPAIGN, 1, "campaigns.json", campaigns(STEADY, URGENT))
            agent = await fleet.start_agent()
            try:
                await until(lambda: any(isinstance(event, Triggered) for event in fleet.events()))
                times, values = await asyncio.to_thread(lambda: told(fleet.events(), SPEED))
                await fleet.sign(Kind.CAMPAIGN, 2, "campaigns.json", campaigns(TOO_MUCH, revision=2))
                await until(lambda: "shortest here" in (fleet.side() or {}).get("refused", ""))
                assert fleet.side()["told"]["campaigns"], "the ones before go on"
                await until(lambda: len(told(fleet.events(), SPEED)[0]) > len(times) + 50)
            finally:
                agent.terminate()
                await agent.wait()
            times, values = told(fleet.events(), SPEED)
            assert is_what_the_bus_said(times, values)
            assert not is_what_the_bus_said(times, np.roll(values, len(values) // 2) + (np.arange(len(values)) == 3))
            kept = json.loads((stage.places.agent / "signals" / "campaigns.json").read_text())
            assert [one["name"] for one in kept["campaigns"]] == ["steady", "braking"]
