"""The daemon: runs what is on the vehicle, and lets it go in order.

Ignition on: spool, cloud side, perception, signals. Ignition off (SIGTERM): everything pending becomes durable, sources
end and what they left becomes durable, P0 goes if the network allows, then all is quiet. A bug or an unfit model ends
the daemon; whoever launched it starts it again. agent/parts.py builds what it runs.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from agent.bugs import leaves, raise_bugs
from agent.config import AgentConfig
from agent.lockstep import LockstepDrive
from agent.parts import Parts
from agent.perception import Perception
from agent.reading import read
from agent.status import AgentStatus
from agent.updates import UpdateSide
from agent.view import View
from ecu.clock import MILLISECOND_NS, SECOND_NS, SteppingClock
from ecu.errors import OutriderError
from ecu.process import forbid_core_dumps, notify
from inference.messages import Seen
from ota.updates import Notice
from telemetry.records import ClockAnchor, Record, UpdateReport
from telemetry.signals import SocketSignals

STATUS_EVERY_S: Final = 0.25
CAPTURED_WITHIN_S: Final = 2.0

log = structlog.get_logger()


class Daemon:
    """One run of the agent. `state` is made when missing. Raises OutriderError for what can't be opened."""

    def __init__(self, config: AgentConfig, state: Path, environment: Mapping[str, str]) -> None:
        self._state = state
        self._environment = environment
        self._views: list[Seen] = []
        self._drive_ended = False
        self.is_to_begin_again = False
        """Whether it ended to be started again: what its launcher starts next is another release."""
        self._parts = Parts(config, state, environment, self)

    # --- life -------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises OutriderError for what ends the daemon in words; anything else is a bug."""
        forbid_core_dumps()
        self._stop = stop
        await self._parts.api.start()
        try:
            notify("READY=1", self._environment)
            log.info("agent_ready", state=str(self._state), lockstep=self._parts.config.run.lockstep)
            await self._work(stop)
        finally:
            await self._close()

    async def _work(self, stop: asyncio.Event) -> None:
        parts = self._parts
        works = [parts.keeper.run(), self._tell_status(), raise_bugs(), *self._sources()]
        if parts.cloud is not None:
            works.append(parts.cloud.run())
        if parts.gallery is not None:
            works.append(parts.gallery.run())
        if parts.anchors is not None:
            works.append(parts.anchors.run(parts.certificate_holds))
        works.append(parts.learning.run())
        if parts.stepping is None:
            works.append(parts.room.run())
        if parts.updates is not None:
            works.append(self._try_updates(parts.updates, parts.perception))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in works]
                await stop.wait()
                for task in tasks:
                    task.cancel()
        except* OutriderError as ended:
            # One sentence for people; what else failed at the same time is in the log.
            reasons = list(leaves(ended))
            log.error("agent_ended", reasons=[str(reason) for reason in reasons])
            raise reasons[0] from ended

    async def _close(self) -> None:
        """Ignition off: everything pending becomes durable, sources end and what they left does, P0 goes if it can."""
        parts = self._parts
        within_s = parts.config.run.flush_within_s
        await self._flush(within_s)
        if parts.perception is not None:
            await parts.perception.stop()
        for record in await parts.room.close(CAPTURED_WITHIN_S):
            self.on_captured(record)
        if parts.gallery is not None:
            await parts.gallery.close(within_s)
        await parts.learning.close(within_s)
        if parts.signals is not None:
            parts.signals.close()
        if await self._flush(within_s) and parts.cloud is not None:
            await parts.cloud.last_call()
        if not await parts.keeper.close(int(within_s * SECOND_NS)):
            log.error("flash_too_slow", within_s=within_s)
        if parts.witness is not None:
            parts.witness.close()
        await parts.api.stop()
        log.info("agent_stopped", law_1_holds=parts.keeper.counts().holds)
        parts.counters.close()
        if parts.object_counters is not None:
            parts.object_counters.close()
        parts.drive_time.close()

    async def _flush(self, within_s: float) -> bool:
        """Whether all that was offered is durable, or counted, by then."""
        try:
            async with asyncio.timeout(within_s):
                await self._parts.keeper.flush()
        except TimeoutError:
            log.error("flash_too_slow", within_s=within_s)
            return False
        return True

    # --- sources ----------------------------------------------------------------------------------

    def _sources(self) -> Sequence[Coroutine[Any, Any, None]]:
        parts = self._parts
        if parts.perception is None:
            return [] if parts.signals is None else [self._follow_signals(parts.signals)]
        if parts.stepping is not None:
            return [self._drive(parts.perception, parts.stepping)]
        look = self._look(parts.perception)
        return [look] if parts.signals is None else [look, self._follow_signals(parts.signals)]

    async def _look(self, perception: Perception) -> None:
        """A camera or model that takes its time, or hangs, holds up nothing else."""
        await perception.start()
        self._settled()
        await perception.watch()

    async def _try_updates(self, updates: UpdateSide, perception: Perception | None) -> None:
        """Once frames flow, or can't for now: a release is tried on the road."""
        if perception is not None:
            await perception.started.wait()
        await updates.run(perception)

    def _settled(self) -> None:
        """What is alive now lives as long as the daemon: the collector needn't look at it again and again."""
        gc.freeze()

    async def _follow_signals(self, signals: SocketSignals) -> None:
        async for sample in signals.samples():
            self._parts.room.tell(sample.t_ns, sample.payload)
            self.on_signals(sample.t_ns, sample.payload)

    async def _drive(self, perception: Perception, clock: SteppingClock) -> None:
        """Lockstep: the drive as fast as it goes, then time alone goes on so that the link can finish."""
        parts = self._parts
        await perception.start()
        if parts.side is not None:
            await parts.side.settled.wait()
        self._settled()
        drive = LockstepDrive(
            perception, self._views, parts.config.camera.name, parts.signals, parts.pipeline, clock, parts.room
        )
        step_ns = parts.config.run.step_ms * MILLISECOND_NS
        async for step in drive.steps(clock.boot_ns(), step_ns, until_ns=None):
            for moment in step.moments:
                self.keep(moment.records)
            self.keep(step.captured)
            parts.drive_time.set(t_ns=step.t_ns)
            await parts.keeper.commit_due()
        self._drive_ended = True
        while True:
            await asyncio.sleep(step_ns / SECOND_NS)
            clock.advance(clock.boot_ns() + step_ns)

    # --- what comes in: as the parts' Hears -------------------------------------------------------

    def on_seen(self, seen: Seen, latency_ns: int) -> None:
        parts = self._parts
        if parts.stepping is not None:
            self._views.append(seen)
        else:
            assert parts.perception is not None
            parts.room.see(seen, parts.perception.disagreement)
            self.keep(parts.pipeline.on_seen(seen))
        parts.api.publish(
            "seen", View(seen.frame_id, self._live_model(), seen.t_ns, latency_ns, seen.model_ns, seen.tracks)
        )

    def _live_model(self) -> str:
        return (self._parts.perception.live_title if self._parts.perception is not None else None) or ""

    def on_health(self, what: str, detail: str) -> None:
        log.warning(what, detail=detail)
        self.keep(self._parts.pipeline.on_health(self._parts.clock.boot_ns(), what, detail))
        self._parts.api.publish("health", {"what": what, "detail": detail})

    def on_update(self, notice: Notice) -> None:
        release = notice.release
        report = UpdateReport(
            what=notice.what,
            unit=notice.kind or "",
            title=release.title if release is not None else "",
            digest=release.digest if release is not None else "",
            attack=notice.attack or "",
            words=notice.words,
            manifest=notice.manifest,
        )
        log.info("update", what=report.what, title=report.title, words=report.words)
        self.keep(self._parts.pipeline.on_update(self._parts.clock.boot_ns(), report))
        self._parts.api.publish("update", report)

    def on_restart(self) -> None:
        self.is_to_begin_again = True
        self._stop.set()

    def on_anchor(self, anchor: ClockAnchor) -> None:
        self.keep(self._parts.pipeline.on_clock(anchor.boot_ns, anchor))

    def on_signals(self, t_ns: int, values: dict[str, float]) -> None:
        self.keep(self._parts.pipeline.on_signals(t_ns, values))

    def on_captured(self, record: Record) -> None:
        self.keep(self._parts.pipeline.on_captured(record))

    def keep(self, records: Iterable[Record]) -> None:
        for record in records:
            self._parts.keeper.offer(record)
            if self._parts.side is not None:
                self._parts.side.note(record)

    # --- what it says -----------------------------------------------------------------------------

    async def _tell_status(self) -> None:
        """Feeds systemd's watchdog by what got done, not by being alive."""
        progress = -1
        while True:
            status = self.status()
            self._parts.api.publish("status", status)
            if self._parts.witness is not None:
                self._parts.witness.flush()
            done = self._progress(status)
            if done != progress or status.perception is None:
                notify("WATCHDOG=1", self._environment)
            progress = done
            await asyncio.sleep(STATUS_EVERY_S)

    def _progress(self, status: AgentStatus) -> int:
        frames = status.perception.frames.received if status.perception is not None else 0
        faults = status.perception.cameras_replaced if status.perception is not None else 0
        return frames + faults + sum(lane.durable for lane in status.spool.lanes)

    def status(self) -> AgentStatus:
        """A reading of everything, now."""
        return read(self._parts, drive_ended=self._drive_ended)
