"""What learning is made of on this vehicle: built when its owner wants it, and nothing kept for it when not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import structlog

from agent.children import Child
from agent.cloud import open_network
from agent.config import AgentConfig, LearningSection
from agent.folders import BOOK_FOLDER, EXAMPLES_FOLDER
from agent.learning.confirming import DriveLabels
from agent.learning.gates import GateRules, World
from agent.learning.labels import Labels, NoLabels, SheetLabels
from agent.learning.labelsource import parse_source
from agent.learning.outbox import SpoolOutbox
from agent.learning.ports import Ports
from agent.learning.side import LearningSide
from agent.learning.status import LearningStatus, not_learning
from agent.perception.settings import StartsChildren
from agent.purge import forget_learning
from agent.trainer import Trainer
from ecu.clock import SECOND_NS, Clock, boot_id
from ecu.conditions import LinuxConditions
from ecu.disk import DiskError, RealDisk
from ecu.keys import KeyStore
from telemetry.federated.book import BookLost, LearningBook
from telemetry.federated.examples import ExampleLimits, ExampleStore, Now
from telemetry.privacy.pictures import RedactedCrop
from telemetry.records import PLACES, Learned, Purpose, Record
from telemetry.signals.standing import Standing
from telemetry.spool import SpoolKeeper

FORGET_AGAIN_NS: Final = 60 * SECOND_NS

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the daemon lends. `drive` is the time of signals and frames, `wall` real time with the clock that is
    believed; `is_time_proven` says whether certificates hold by it, None while that isn't known; `plan` and `package`
    say where the signed plan and the live model of states lie now."""

    state: Path
    keys: KeyStore
    drive: Clock
    wall: Clock
    rng: Random
    environment: Mapping[str, str]
    keeper: SpoolKeeper
    may: Callable[[], bool]
    private: Callable[[Learned], list[Record]]
    is_time_proven: Callable[[], bool | None]
    plan: Callable[[], Path | None]
    package: Callable[[], Path | None]
    start: StartsChildren = Child.start


class LearningRoom:
    """Holds the side, or why there is none. Damage to what it keeps is said in its status and stops nothing else."""

    def __init__(self, config: AgentConfig, around: Surroundings) -> None:
        self._section = config.learning
        self._around = around
        self._boot = boot_id()
        self._standing = Standing()
        self._is_time_proven = False
        network = open_network(config.network)
        self.conditions = LinuxConditions(parked=self._is_still, network=lambda: network.now().network)
        self._fault = ""
        self._is_unwanted = False
        """What an earlier start kept still lies here, and nobody agrees to it any more."""
        self._side: LearningSide | None = None
        self._drive: DriveLabels | None = None
        try:
            self._side = self._opened(config)
        except (BookLost, DiskError) as trouble:
            self._fault = str(trouble)
            log.error("learning_not_opened", reason=self._fault)

    async def run(self) -> None:
        """Until cancelled."""
        if self._side is not None:
            await self._side.run()
        while self._is_unwanted:
            await self._around.wall.sleep_until(self._around.wall.boot_ns() + FORGET_AGAIN_NS)
            try:
                await asyncio.to_thread(self._forget_all)
            except DiskError as trouble:
                self._fault = str(trouble)
            else:
                self._is_unwanted, self._fault = False, ""

    async def close(self, within_s: float) -> None:
        if self._side is not None:
            await self._side.close(within_s)

    async def erase(self, purpose: Purpose) -> None:
        """All that was kept to learn from, or is owed, or waits. Raises DiskError: say it again."""
        if purpose is not PLACES[Learned][1]:
            return
        if self._drive is not None:
            self._drive.forget()
        if self._side is not None:
            await self._side.purge()
        else:
            await asyncio.to_thread(self._forget_all)

    def left_out(self) -> dict[str, int]:
        """Examples that were confirmed, and never offered to the store."""
        confirmed = self._drive.untaken if self._drive is not None else 0
        return {"examples_untaken": confirmed + (self._side.untaken if self._side is not None else 0)}

    def hear(self, t_ns: int, signals: Mapping[str, float]) -> None:
        self._standing.put(t_ns, signals)
        if self._drive is not None:
            self._drive.hear(t_ns, signals)
        if self._side is not None and self._standing.for_ns(t_ns) is None:
            self._side.look()

    @property
    def is_listening(self) -> bool:
        """Whether what the drive confirms is taken yet."""
        return self._drive is not None and self._drive.is_heard

    @property
    def crop_px(self) -> int:
        """How large crops of traffic lights are wanted; 0: none."""
        return self._section.crop_px if self._drive is not None else 0

    def see(self, crop: RedactedCrop) -> None:
        if self._drive is not None:
            self._drive.see(crop)

    def status(self) -> LearningStatus | None:
        """None where its owner doesn't want it."""
        if self._side is not None:
            return self._side.status()
        return not_learning(self._section.source, self._fault) if self._fault else None

    # --- building ---------------------------------------------------------------------------------

    def _opened(self, config: AgentConfig) -> LearningSide | None:
        """Raises BookLost, DiskError."""
        section, around = config.learning, self._around
        if not (section.enabled and around.may()):
            self._is_unwanted = True
            self._forget_all()
            self._is_unwanted = False
            return None
        store = self._store(section)
        book_disk = RealDisk(around.state / BOOK_FOLDER)
        book_disk.make_folder("")
        ports = Ports(
            plan=around.plan,
            package=around.package,
            world=self.world,
            sign=around.keys.sign,
            private=around.private,
            keep=SpoolOutbox(around.keeper),
            may=around.may,
            clock=around.wall,
            boot=self._boot,
            rng=around.rng,
        )
        return LearningSide(
            section, rules_of(section), LearningBook(book_disk, around.keys), store,
            Trainer(around.environment, around.start), self._labels(config), ports,
        )  # fmt: skip

    def _store(self, section: LearningSection) -> ExampleStore:
        limits = ExampleLimits(section.most_examples, section.max_bytes, section.keep_days)
        disk = RealDisk(self._around.state / EXAMPLES_FOLDER)
        return ExampleStore.open(disk, self._around.keys, os.urandom, limits, self._now())

    def _labels(self, config: AgentConfig) -> Labels:
        sheet = parse_source(config.learning.source)
        if sheet is not None:
            most = config.learning.most_examples
            return SheetLabels(sheet, most, self._now, self._around.environment, self._around.start)
        if not (config.camera.source and config.signals.source and config.objects.enabled):
            return NoLabels(
                "Nothing confirms what a light showed: that takes [camera] source, [signals] source and [objects]."
            )
        self._drive = DriveLabels(self._now)
        return self._drive

    def _forget_all(self) -> None:
        """Whoever no longer agrees, or never did, has nothing kept: what an earlier start kept is destroyed, whatever
        there is of it. Raises DiskError: to be said again."""
        forget_learning(RealDisk(self._around.state), self._around.keys, os.urandom)

    # --- how things are ---------------------------------------------------------------------------

    def world(self) -> World:
        conditions = self.conditions.now()
        return World(self._standing.for_ns(self._around.drive.boot_ns()), conditions.power, conditions.heat,
                     self._trusted_s())  # fmt: skip

    def _is_still(self) -> bool:
        return self._standing.for_ns(self._around.drive.boot_ns()) is not None

    def _trusted_s(self) -> float | None:
        """Once certificates held by our clock it is trusted, until they don't."""
        proven = self._around.is_time_proven()
        if proven is not None:
            self._is_time_proven = proven
        return self._around.wall.wall_ns() / SECOND_NS if self._is_time_proven else None

    def _now(self) -> Now:
        trusted_s = self._trusted_s()
        wall_ns = int(trusted_s * SECOND_NS) if trusted_s is not None else None
        return Now(self._boot, self._around.wall.boot_ns(), wall_ns)


def rules_of(section: LearningSection) -> GateRules:
    return GateRules(
        parked_s=section.parked_s if section.needs_parked else None,
        power=section.power,
        longest_s=section.longest_s,
        pause_s=section.pause_s,
    )
