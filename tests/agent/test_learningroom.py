"""Learning as the daemon builds it: the package that ships, a sheet's crops, real processes, and the real spool."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.config import AgentConfig
from agent.daemon import Daemon
from agent.learning import LearningStatus
from agent.learningroom import BOOK_FOLDER, EXAMPLES_FOLDER, LearningRoom, Surroundings
from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from inference.package import find_package
from inference.training.package import load_learnable
from telemetry.federated.payload import decode_delta
from telemetry.federated.plan import LabelSource, Plan, encode_plan
from telemetry.records import Lane, Learned, Record, record_of
from telemetry.signals import vss
from telemetry.spool import Spool, SpoolKeeper
from telemetry.spool.counts import MemoryCounters
from telemetry.spool.limits import SpoolLimits

SHEET = Path(__file__).parents[2] / "simulator" / "lights"
PACKAGE = find_package("light-state@1.0")
BENCH = {
    "enabled": True, "needs_parked": False, "power": "any", "source": f"crops:{SHEET}?take=0-19,1100-1119",
}  # fmt: skip


def plan_of_package(**changes: Any) -> Plan:
    learnable = load_learnable(PACKAGE)
    told = {
        "name": "lights-1", "model": learnable.title, "base": learnable.base, "graph": learnable.graph_sha256,
        "layout": learnable.layout.digest, "parameters": learnable.layout.size, "source": LabelSource.CONFIRMED,
        "steps": 8, "batch": 16, "learning_rate": 0.01, "clip": 1.0, "keep": 500, "min_examples": 8, "updates": 1,
        "max_staleness": 1, "not_after": 1 << 34,
    }  # fmt: skip
    return Plan(**{**told, **changes})


@dataclass
class Vehicle:
    state: Path
    learning: dict[str, Any]
    consents: list[str] = field(default_factory=lambda: ["operation", "learning"])
    keys: MemoryKeyStore = field(default_factory=MemoryKeyStore)
    told: list[Learned] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = SystemClock()
        counters = MemoryCounters()
        spool = Spool.open(RealDisk(self.state / "spool"), self.keys, clock, os.urandom, SpoolLimits(), counters)
        self.keeper = SpoolKeeper(spool, clock)
        identity = self.keys.begin_identity()
        del identity
        self.config = AgentConfig.model_validate({"learning": self.learning, "privacy": {"consents": self.consents}})
        self.room = LearningRoom(
            self.config,
            Surroundings(
                state=self.state, keys=self.keys, drive=clock, wall=clock, rng=Random(1), environment=os.environ,
                keeper=self.keeper, may=lambda: "learning" in self.consents, private=self._private,
                is_time_proven=lambda: True, plan=self._plan, package=lambda: PACKAGE,
            ),
        )  # fmt: skip

    def _plan(self) -> Path | None:
        path = self.state / "plan.json"
        return path if path.exists() else None

    def _private(self, learned: Learned) -> list[Record]:
        self.told.append(learned)
        return [record_of(0, learned)]

    @property
    def status(self) -> LearningStatus:
        status = self.room.status()
        assert status is not None
        return status

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        works = [asyncio.create_task(self.keeper.run()), asyncio.create_task(self.room.run())]
        try:
            yield
        finally:
            for work in works:
                work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*works)
            await self.room.close(5.0)
            await self.keeper.close(5_000_000_000)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                await asyncio.sleep(0.01)


async def test_a_bench_learns_from_its_crops_and_the_update_lies_durably_in_the_spool(tmp_path: Path) -> None:
    vehicle, plan = Vehicle(tmp_path, BENCH), plan_of_package()
    async with vehicle.at_work():
        await vehicle.until(lambda: vehicle.status.examples == {"green": 20, "red": 20})
        (tmp_path / "plan.json").write_bytes(encode_plan(plan))
        await vehicle.until(lambda: vehicle.status.runs == {"told": 1} and not vehicle.status.waiting)
        lane = vehicle.keeper.counts().lanes[Lane.P3]
        assert (lane.offered, lane.durable) == (1, 1)
    (learned,) = vehicle.told
    assert decode_delta(learned.update.payload, plan.parameters, plan.keep).norm <= plan.clip * 1.01


async def test_a_sheet_that_is_told_again_adds_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        vehicle = Vehicle(tmp_path, BENCH, keys=vehicle.keys if _ else MemoryKeyStore())
        async with vehicle.at_work():
            await vehicle.until(lambda v=vehicle: v.status.store.offered == 40)  # type: ignore[misc,union-attr]
        store = vehicle.status.store
        assert store is not None
        assert store.kept == 40
        assert store.holds


@pytest.mark.parametrize(
    ("source", "words"),
    [(f"crops:{SHEET}?take=5000", "names no crops of 1187"), ("crops:/nowhere", "The crops in /nowhere are refused")],
)
async def test_a_sheet_that_cant_be_used_is_said_and_stops_nothing(tmp_path: Path, source: str, words: str) -> None:
    vehicle = Vehicle(tmp_path, {**BENCH, "source": source})
    async with vehicle.at_work():
        await vehicle.until(lambda: words in vehicle.status.source_fault)
        assert vehicle.status.examples == {}


@pytest.mark.parametrize("source", ["crops:", "video:x", "crops:x?take=5-3", "crops:x?all=1", "crops:x?take=a"])
def test_what_is_no_source_is_refused_with_what_is(source: str) -> None:
    with pytest.raises(ValueError, match="source|names no crops"):
        AgentConfig.model_validate({"learning": {"source": source}})


@pytest.mark.parametrize(
    ("learning", "consents"), [({"enabled": False}, ["learning"]), (BENCH, ["operation"])], ids=["off", "no consent"]
)
async def test_without_consent_or_switched_off_nothing_is_kept_and_what_was_is_destroyed(
    tmp_path: Path, learning: dict[str, Any], consents: list[str]
) -> None:
    before = Vehicle(tmp_path, BENCH)
    async with before.at_work():
        await before.until(lambda: before.status.examples == {"green": 20, "red": 20})
    files = {path.name: path.read_bytes() for path in (tmp_path / EXAMPLES_FOLDER).glob("*.ex")}
    assert len(files) == 40
    after = Vehicle(tmp_path, learning, consents, keys=before.keys)
    async with after.at_work():
        assert after.room.status() is None
        await asyncio.sleep(0)
    assert not list((tmp_path / EXAMPLES_FOLDER).glob("*.ex"))
    # Even who kept the files has nothing: their key is gone.
    for name, data in files.items():
        (tmp_path / EXAMPLES_FOLDER / name).write_bytes(data)
    again = Vehicle(tmp_path, {**BENCH, "source": "drive"}, keys=before.keys)
    assert again.status.store is not None
    assert (again.status.store.kept, again.status.store.dropped) == (0, {"damaged": 40})


async def test_where_nobody_wants_learning_nothing_is_written_for_it(tmp_path: Path) -> None:
    vehicle = Vehicle(tmp_path, {})
    async with vehicle.at_work():
        assert vehicle.room.status() is None
    assert not (tmp_path / EXAMPLES_FOLDER).exists()
    assert not (tmp_path / BOOK_FOLDER).exists()


async def test_a_book_that_is_damaged_is_said_and_stops_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / BOOK_FOLDER
    folder.mkdir()
    for twin in (0, 1):
        (folder / f"learning.{twin}").write_bytes(b"no book")
    vehicle = Vehicle(tmp_path, BENCH)
    async with vehicle.at_work():
        assert "Nothing is learned until" in vehicle.status.fault
        vehicle.room.hear(1, {vss.SPEED: 0.0})


async def test_the_daemon_without_camera_or_cloud_says_why_nothing_is_learned(tmp_path: Path) -> None:
    config = AgentConfig.model_validate(
        {"learning": BENCH, "privacy": {"consents": ["learning"]}, "link": {"kind": "none"}}
    )
    daemon, stop = Daemon(config, tmp_path / "state", os.environ), asyncio.Event()
    running = asyncio.create_task(daemon.run(stop))
    async with asyncio.timeout(60):
        while (status := daemon.status().learning) is None or status.examples != {"green": 20, "red": 20}:
            await asyncio.sleep(0.02)
        assert status.plan is None
        stop.set()
        await running
