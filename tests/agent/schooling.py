"""A learning side whose world, clock, plan and spool do what a test says; its trainer's processes are real ones."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from agent.children import Child
from agent.learning.gates import GateRules, PowerWanted, World
from agent.learning.labels import Labels, NoLabels
from agent.learning.ports import Ports
from agent.learning.side import LearningSide
from agent.perception.settings import StartsChildren
from agent.trainer import Trainer
from ecu.clock import MILLISECOND_NS, SECOND_NS, SteppingClock
from ecu.conditions import Heat, Power
from ecu.crashdisk import CrashDisk
from ecu.disk import Disk
from ecu.keys import MemoryKeyStore
from telemetry.federated.book import LearningBook
from telemetry.federated.examples import ExampleLimits, ExampleStore
from telemetry.federated.plan import LabelSource, LearningFloor, Plan, encode_plan
from telemetry.federated.update import ModelUpdate, signed_part
from telemetry.records import Learned, Record, record_of
from tests.agent.lessons import NOW, example
from tests.telemetry.spool.rig import seeded_entropy

KEYS = MemoryKeyStore()
FINE = World(standing_ns=3600 * SECOND_NS, power=Power.EXTERNAL, heat=Heat.COOL, trusted_s=1_800_000_000.0)
FLOOR = LearningFloor(enabled=True, steps=200_000)
RULES = GateRules(parked_s=120.0, power=PowerWanted.EXTERNAL, longest_s=3600.0, pause_s=60.0)


class TestLabels(NoLabels):
    """Whatever a plan asks for, it has."""

    __test__ = False

    def __init__(self) -> None:
        super().__init__("")

    def has(self, source: LabelSource) -> bool:
        return True


def sign(message: bytes) -> bytes:
    return hashlib.sha256(b"this vehicle" + message).digest()


def is_signed(update: ModelUpdate) -> bool:
    return update.signature == sign(signed_part(update))


@dataclass
class School:
    folder: Path
    package: Path | None
    disk: Disk = field(default_factory=CrashDisk)
    world: World = FINE
    floor: LearningFloor = FLOOR
    rules: GateRules = RULES
    labels: Labels = field(default_factory=TestLabels)
    start: StartsChildren = Child.start
    may: bool = True
    takes: bool = True
    """Whether the spool does."""
    examples: int = 12
    clock: Any = field(default_factory=lambda: SteppingClock(NOW.boot_ns))
    offered: list[ModelUpdate] = field(default_factory=list)
    told: list[ModelUpdate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trainer = Trainer(os.environ, self.start)
        self.open()

    def open(self) -> None:
        """A start of the agent."""
        self.book = LearningBook(self.disk, KEYS)
        limits = ExampleLimits(500, 1 << 23, 30.0)
        self.store = ExampleStore.open(self.disk, KEYS, seeded_entropy(len(self.offered) + 1), limits, NOW)
        for number in range(self.store.counts().kept, self.examples):
            self.store.put(example(number))
        ports = Ports(
            plan=lambda: path if (path := self.folder / "plan.json").exists() else None,
            package=lambda: self.package,
            world=lambda: self.world,
            sign=sign,
            private=lambda learned: [record_of(0, learned)] if self.may else [],
            keep=self._keep,
            may=lambda: self.may,
            clock=self.clock,
            boot=NOW.boot,
            rng=Random(1),
        )
        self.side = LearningSide(
            self.floor, self.rules, self.book, self.store, self.trainer, self.labels, ports
        )  # fmt: skip

    def asks(self, plan: Plan) -> None:
        (self.folder / "plan.json").write_bytes(encode_plan(plan))

    async def _keep(self, record: Record) -> bool:
        assert isinstance(record.event, Learned)
        self.offered.append(record.event.update)
        if self.takes:
            self.told.append(record.event.update)
        return self.takes

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.side.run())
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await self.side.close(5.0)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Time passes, much faster than on the wall."""
        async with asyncio.timeout(60):
            while not reached():
                await self.passes(0.2)

    async def passes(self, seconds: float) -> None:
        until_ns = self.clock.boot_ns() + int(seconds * SECOND_NS)
        while self.clock.boot_ns() < until_ns:
            self.clock.advance(min(until_ns, self.clock.boot_ns() + 200 * MILLISECOND_NS))
            await asyncio.sleep(0.001)

    def changes(self, **world: Any) -> None:
        self.world = replace(self.world, **world)

    @property
    def runs(self) -> dict[str, int]:
        return dict(self.side.status().runs)
