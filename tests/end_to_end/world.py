"""A vehicle on a real drive and its receiver, all their processes real, for tests that follow what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.apiclient import AgentNotRunning
from agent.frames import FrameCounts, read_frame_counts
from ecu.clock import SECOND_NS, SystemClock
from ecu.disk import RealDisk
from ecu.keys import FileKeyStore
from simulator.demo.demo import DRIVE
from simulator.demo.observer import Observations, Observer
from simulator.demo.proofs import StoredRecord, stored_records
from simulator.demo.script import script
from simulator.demo.stage import VEHICLE, Places, Stage
from simulator.faults.net import FaultProxy
from simulator.witness import Entry, read_entries
from telemetry.spool import Spool, SpoolLimits
from telemetry.spool.counts import MemoryCounters
from telemetry.spool.inspection import Inspection, Untouched, blocks_of, inspect

WITHIN_S = 40.0


@dataclass(frozen=True, slots=True)
class World:
    """A stage whose receiver runs and whose vehicle is paired; `seen` is what an onlooker heard of the agent."""

    stage: Stage
    seen: Observations

    @property
    def link(self) -> FaultProxy:
        assert self.stage.proxy is not None
        return self.stage.proxy

    @property
    def drive_s(self) -> float:
        """Seconds of the drive so far, in its own time."""
        return self.seen.sightings[-1].t_ns / SECOND_NS if self.seen.sightings else 0.0

    def status(self) -> dict[str, Any]:
        """The agent's; empty while it isn't there."""
        with contextlib.suppress(AgentNotRunning):
            status: dict[str, Any] = self.stage.status()
            return status
        return {}

    def waiting(self) -> int | None:
        """Records on the vehicle that still have to go; None while nobody can say."""
        lanes = self.status().get("spool", {}).get("lanes")
        return sum(lane["spooled"] + lane["pending"] for lane in lanes) if lanes else None

    async def drain(self) -> None:
        """Parked at home until the receiver has everything; then the agent stops."""
        await self.stage.start_agent(parked=True)
        await until(lambda: self.waiting() == 0)
        await self.stage.stop("agent")

    # --- what lies on the disks; the spool's only while no agent runs ---

    def testimony(self) -> list[Entry]:
        return list(read_entries(self.stage.places.testimony))

    def stored(self) -> list[StoredRecord]:
        return list(stored_records(self.stage.places.receiver / "receiver.sqlite", VEHICLE))

    def frames(self) -> FrameCounts:
        agent = self.stage.places.agent
        counts = read_frame_counts(agent / "camera.ledger", agent / "frames.ledger")
        assert counts is not None
        return counts

    def spool(self) -> Inspection:
        return inspect(self.stage.places.agent, SpoolLimits(), SystemClock())

    def blocks_on_flash(self) -> Iterator[bytes]:
        """Every block that waits in the spool, as it will travel."""
        state = self.stage.places.agent
        keys = FileKeyStore(Untouched(RealDisk(state / "keys")))
        disk = Untouched(RealDisk(state / "spool"))
        spool = Spool.open(disk, keys, SystemClock(), os.urandom, SpoolLimits(), MemoryCounters())
        for ref in blocks_of(spool):
            yield spool.load(ref)

    def blocks_stored(self) -> list[bytes]:
        """Every committed block of the vehicle, as it came."""
        database = self.stage.places.receiver / "receiver.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = connection.execute("select block from inbox where vehicle = ?", (VEHICLE,)).fetchall()
        return [bytes(block) for (block,) in rows]


@contextlib.asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    """In lockstep, before the agent's first start. The folder's name is short: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="or-") as folder:
        places = Places(Path(folder))
        seen = Observations(SystemClock().boot_ns())
        async with Stage(places, DRIVE, script(fast=True), os.environ) as stage:
            await stage.start_receiver()
            await stage.start_proxy()
            await asyncio.gather(stage.pair(VEHICLE, places.agent), stage.start_world())
            watching = asyncio.create_task(Observer(places.agent_socket, SystemClock(), seen).run())
            try:
                yield World(stage, seen)
            finally:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching


async def until(reached: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """For what other processes bring about. Looks in a thread: asking an agent may block."""
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(reached):
            await asyncio.sleep(0.01)
