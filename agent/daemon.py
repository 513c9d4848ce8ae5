"""The daemon: builds everything on the vehicle, runs it, and lets it go in order.

Ignition on: spool, cloud side, perception, signals. Ignition off (SIGTERM): sources first, then everything pending
becomes durable, then the rest. A bug or an unfit model ends the daemon; whoever launched it starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

import structlog

from agent.api import LocalApi
from agent.clocks import DriveClock
from agent.cloud import CloudSide, Trust, never_paired
from agent.config import AgentConfig
from agent.frames import FrameAccount
from agent.lockstep import LockstepDrive
from agent.pairing import KEYS_FOLDER, NotPaired, load_paired
from agent.perception import Perception, PerceptionSettings
from agent.pipeline import Pipeline
from agent.status import AgentStatus, ClockStatus, PrivacyStatus, WitnessStatus
from ecu.clock import MILLISECOND_NS, SECOND_NS, OffsetClock, SteppingClock, SystemClock, boot_id
from ecu.disk import RealDisk
from ecu.errors import OutriderError
from ecu.keys import FileKeyStore
from ecu.ledger import Ledger
from ecu.process import forbid_core_dumps, notify
from inference.messages import Seen
from inference.package import find_package
from telemetry.capture import CaptureRules
from telemetry.confirmations import Confirmation, ConfirmationSocket
from telemetry.privacy import Privacy
from telemetry.records import Record
from telemetry.signals import SocketSignals, unix_dial
from telemetry.spool import LEDGER_NAMES, Confirmed, Spool, SpoolKeeper

SOCKET_NAME: Final = "agent.sock"
STATUS_EVERY_NS: Final = 250 * MILLISECOND_NS
CLOSE_WITHIN_S: Final = 5.0

log = structlog.get_logger()


class Daemon:
    """One run of the agent. `state` is made when missing."""

    def __init__(self, config: AgentConfig, state: Path, environment: Mapping[str, str]) -> None:
        self._config = config
        self._state = state
        self._environment = environment
        self._rng = Random(os.urandom(16))
        self._system = SystemClock()
        self._wall = OffsetClock(self._system, int(config.run.wall_error_s * SECOND_NS))
        self._disk = RealDisk(state)
        self._disk.make_folder("")
        self._drive_time = Ledger.open(state / "drive.ledger", ("t_ns",), boot_id().encode())
        self._stepping = SteppingClock(self._drive_time.values()["t_ns"]) if config.run.lockstep else None
        self._clock = DriveClock(self._stepping or self._system, self._wall)
        self._privacy = Privacy(config.privacy)
        self._pipeline = Pipeline(config.camera.name, CaptureRules(config.capture), self._privacy)
        self._views: list[Seen] = []
        self._drive_ended = False
        self._since_ns = self._clock.boot_ns()
        self._api = LocalApi(state / SOCKET_NAME, self.status)
        self._witness = ConfirmationSocket(Path(config.witness.socket)) if config.witness.socket else None
        self._keys = FileKeyStore.open(state / KEYS_FOLDER)
        self._keeper = self._open_spool()
        self._cloud = self._open_cloud()
        self._perception = self._open_perception()
        self._signals = self._open_signals()

    # --- life -------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises OutriderError for what ends the daemon in words; anything else is a bug."""
        forbid_core_dumps()
        try:
            await self._api.start()
            async with self._running() as tasks:
                stopped = asyncio.ensure_future(stop.wait())
                done, _ = await asyncio.wait((stopped, *tasks), return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            await self._close()

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
        if self._perception is not None:
            await self._perception.start()
        works = [self._keeper.run(), self._tell_status()]
        if self._cloud is not None:
            works.append(self._cloud.run())
        works.extend(self._sources())
        tasks = [asyncio.create_task(work) for work in works]
        # What is alive now lives as long as the daemon: the collector needn't look at it again and again.
        gc.freeze()
        notify("READY=1", self._environment)
        log.info("agent_ready", state=str(self._state), lockstep=self._config.run.lockstep)
        try:
            yield tasks
        finally:
            await self._end(tasks)

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in reversed(tasks):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, ExceptionGroup):
                log.error("part_failed", error=str(result), parts=[repr(part) for part in result.exceptions])

    async def _close(self) -> None:
        """Ignition off: everything pending becomes durable before anything else goes."""
        if self._perception is not None:
            await self._perception.stop()
        await self._keeper.close(CLOSE_WITHIN_S)
        if self._witness is not None:
            self._witness.close()
        await self._api.stop()
        self._drive_time.close()
        log.info("agent_stopped", law_1_holds=self._keeper.counts().holds)

    def _sources(self) -> Iterable[object]: ...
